"""Find the starter bundles: in `starter/` of a checkout, or inside the package of a wheel."""

from pathlib import Path

from tagmill.errors import ConfigurationError

NAMES = ("classifier.onnx", "segmenter.onnx")


def starter_bundles() -> tuple[Path, Path]:
    """Return the paths of the starter classifier and segmenter."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "starter", package.parent / "starter"):
        classifier, segmenter = (folder / name for name in NAMES)
        if classifier.is_file() and segmenter.is_file():
            return classifier, segmenter
    raise ConfigurationError("the starter bundles are missing from this installation; install tagmill again")
