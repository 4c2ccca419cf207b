"""What `tagmill` can do: a lazy table of the commands in each folder's `cli.py`."""

import importlib

import click

from tagmill.errors import ConfigurationError

#: command -> (module, attribute, extra that installs what it imports, first line of its help)
COMMANDS: dict[str, tuple[str, str, str, str]] = {
    "demo": ("worker.cli.demo", "demo", "cpu", "Draw a sample catalog and tag it end to end, with no servers."),
    "sample": ("tagmill.cli.sample", "sample", "", "Draw a sample catalog with its true categories and masks."),
    "tag": ("worker.cli.tag", "tag", "cpu", "Tag a folder or manifest here and now, with no servers."),
    "submit": ("producer.cli.submit", "submit", "", "Enqueue folders and manifests as a run."),
    "run": ("producer.cli.run", "run", "", "List runs, watch, cancel and retry them."),
    "results": ("producer.cli.results", "results", "", "Write the labels and masks of a run."),
    "worker": ("worker.cli.worker", "worker", "cpu", "Start a supervised worker."),
    "predict": ("worker.cli.predict", "predict", "cpu", "Tag single images with no queue and no database."),
    "bench": ("worker.cli.bench", "bench", "cpu", "Find the batch size and threads a bundle runs fastest with."),
    "train": ("training.cli.train", "train", "train", "Train a model: one subcommand per recipe."),
    "export": ("export.cli.export", "export", "train", "Make a bundle out of a training run."),
    "evaluate": ("export.cli.evaluate", "evaluate", "cpu", "Measure a bundle on labeled images."),
    "model": ("export.cli.model", "model", "cpu", "Register bundles and choose the one in production."),
    "db": ("tagmill.cli.db", "db", "", "Create or check the SQL tables."),
}


#: package -> extra, of commands that need two of them
_BROUGHT_BY = {"onnxruntime": "cpu", "matplotlib": "train", "sklearn": "train"}


class LazyGroup(click.Group):
    """Imports a command only when it is called, so that `--help` is quick and needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, extra, _ = COMMANDS[name]
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise missing_extra(name, error, extra) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[3]) for name, entry in COMMANDS.items()])


def missing_extra(command: str, error: ModuleNotFoundError, extra: str) -> Exception:
    """Return the error that names the extra to install, or the import error itself where none helps."""
    package = (error.name or "").partition(".")[0]
    if not extra or package in {"tagmill", "producer", "worker", "training", "export", ""}:
        return error
    extra = _BROUGHT_BY.get(package, extra)
    return ConfigurationError(
        f"`tagmill {command}` needs {package}, which is not installed; run: pip install 'tagmill[{extra}]'"
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="tagmill")
def cli() -> None:
    """Tag a shop's catalog images in bulk: train, export, queue, infer, SQL."""
