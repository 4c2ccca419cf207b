"""`tagmill db`: create and check the SQL tables."""

import click

from tagmill.cli.param_types import DATABASE
from tagmill.db.connection import connect
from tagmill.db.migrate import newest_version, open_database, upgrade
from tagmill.settings import load_settings


@click.group()
def db() -> None:
    """Create or check the SQL tables."""


@db.command("upgrade")
@DATABASE
def upgrade_tables(database_url: str | None) -> None:
    """Create the tables, or upgrade them to this version."""
    engine = connect(load_settings(database_url=database_url).database_url)
    upgrade(engine)
    click.echo(f"database {engine.url.render_as_string(hide_password=True)} is at schema {newest_version()}")


@db.command("check")
@DATABASE
def check_tables(database_url: str | None) -> None:
    """End with exit code 78 if the tables do not fit this version."""
    engine = open_database(load_settings(database_url=database_url).database_url)
    click.echo(f"database {engine.url.render_as_string(hide_password=True)} is at schema {newest_version()}")
