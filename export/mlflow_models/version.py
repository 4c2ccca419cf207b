"""A version of a model in MLflow's registry, and how it is written."""

from dataclasses import dataclass

#: how its name begins
SCHEME = "models:/"


@dataclass(frozen=True)
class MlflowVersion:
    """A version in MLflow's registry."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.version}"
