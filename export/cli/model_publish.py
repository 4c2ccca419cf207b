"""`tagmill model publish`: write a bundle into MLflow's model registry."""

import click


@click.command("publish")
@click.argument("wanted", metavar="NAME[@VERSION]")
@click.option("--registered-name", metavar="NAME", help="The name in MLflow's registry  [default: that of the model]")
@click.option("--alias", metavar="NAME", help="Also set an alias of it, such as champion.")
def publish_command(wanted: str, registered_name: str | None, alias: str | None) -> None:
    """Write a bundle into MLflow's model registry, with its sha256, labels and metrics as tags.

    MLFLOW_TRACKING_URI says where it is. A bundle that is there already is not written again. Needs the extra mlflow.
    """
    from export.mlflow_models.publish import publish
    from tagmill.db.migrate import open_database
    from tagmill.registry.models import resolve_bundle
    from tagmill.registry.open_store import open_store
    from tagmill.settings import load_settings

    settings = load_settings()
    found = resolve_bundle(open_database(settings.database_url), wanted)
    bundle = open_store(settings).path(found.sha256)
    done = publish(found, bundle, registered_name or found.name, alias)
    also = f", alias {alias}" if alias else ""
    click.echo(f"{found.title}: {'published as' if done.new else 'is already there as'} {done}{also}")
