"""The table of all commands; each is imported from its `cli/COMMAND.py` when it is called."""

import gc
import importlib
from typing import NamedTuple

import click

from tagmill.errors import ConfigurationError


class CommandEntry(NamedTuple):
    """A command that is not imported yet."""

    #: defines the command under its name
    module: str
    #: extra that installs the packages it imports; empty if it needs none
    extra: str
    #: first line of its help
    help: str


COMMANDS = {
    "demo": CommandEntry("worker.cli.demo", "cpu", "Draw a sample catalog and tag it end to end, with no servers."),
    "sample": CommandEntry("tagmill.cli.sample", "", "Draw a sample catalog with its true categories and masks."),
    "tag": CommandEntry("worker.cli.tag", "cpu", "Tag a folder or manifest here and now, with no servers."),
    "submit": CommandEntry("producer.cli.submit", "", "Enqueue folders and manifests as a run."),
    "run": CommandEntry("producer.cli.run", "", "List runs, watch, cancel and retry them."),
    "results": CommandEntry("producer.cli.results", "", "Write the labels and masks of runs or of the catalog."),
    "check": CommandEntry("worker.cli.check", "", "Check pictures against the rules of marketplaces or of the shop."),
    "report": CommandEntry("producer.cli.report", "report", "Write a page about a run, with its images and charts."),
    "drift": CommandEntry("producer.cli.drift", "", "Compare the labels, scores and embeddings of two runs."),
    "similar": CommandEntry("worker.cli.similar", "", "Find the images that look most like one."),
    "duplicates": CommandEntry("producer.cli.duplicates", "", "Find images that show the same, and look-alikes."),
    "worker": CommandEntry("worker.cli.worker", "cpu", "Start a supervised worker, list workers, and drain them."),
    "celery": CommandEntry("worker.cli.celery", "cpu", "Run Flower, or another command of Celery, on the workers."),
    "predict": CommandEntry("worker.cli.predict", "cpu", "Tag single images with no queue and no database."),
    "bench": CommandEntry("worker.cli.bench", "cpu", "Find the batch size and threads a bundle runs fastest with."),
    "train": CommandEntry("training.cli.train", "train", "Train a model: one subcommand per recipe."),
    "export": CommandEntry("export.cli.export", "train", "Make a bundle out of a training run."),
    "evaluate": CommandEntry("export.cli.evaluate", "cpu", "Measure a bundle on labeled images."),
    "model": CommandEntry("export.cli.model", "cpu", "Register bundles and choose the one in production."),
    "labelset": CommandEntry(
        "export.cli.labelset", "cpu", "Label what has embeddings by a few examples of each label."
    ),
    "audit": CommandEntry("tagmill.cli.audit", "", "Show who did what to runs and models."),
    "doctor": CommandEntry(
        "worker.cli.doctor", "", "Look at everything that an installation needs, and say what to do."
    ),
    "exporter": CommandEntry("tagmill.cli.exporter", "ops", "Serve metrics of queues and workers for Prometheus."),
    "prune": CommandEntry("tagmill.cli.prune", "", "Delete old runs, and what nothing shows any more."),
    "db": CommandEntry("tagmill.cli.db", "", "Create or check the SQL tables."),
}

#: package -> extra, for commands that need two extras
_EXTRA_OF_PACKAGE = {"onnxruntime": "cpu", "matplotlib": "train", "sklearn": "train"}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called, so that `--help` is fast and needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        entry = COMMANDS[name]
        try:
            command: click.Command = getattr(importlib.import_module(entry.module), name)
        except ModuleNotFoundError as error:
            raise missing_extra(name, error, entry.extra) from error
        finally:
            gc.freeze()
            gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def missing_extra(command: str, error: ModuleNotFoundError, extra: str) -> Exception:
    """Return an error that names the extra to install, or the import error itself if no extra helps."""
    package = (error.name or "").partition(".")[0]
    if not extra or package in {"tagmill", "producer", "worker", "training", "export", ""}:
        return error
    extra = _EXTRA_OF_PACKAGE.get(package, extra)
    return ConfigurationError(
        f"`tagmill {command}` needs {package}, which is not installed; run: pip install 'tagmill[{extra}]'"
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tagmill")
def cli() -> None:
    """Tag a shop's catalog images in bulk: train, export, queue, infer, SQL."""
