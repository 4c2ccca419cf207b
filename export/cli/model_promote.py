"""`tagmill model promote`: bring a version into production, once it passed its gates."""

from pathlib import Path

import click

from export.cli.options import FOLDER
from tagmill.cli.param_types import DEVICE, Share
from tagmill.errors import InputError


@click.command("promote")
@click.argument("wanted", metavar="NAME@VERSION")
@click.option("--test-set", "test_set", multiple=True, type=FOLDER, metavar="SOURCE",
              help="Labeled images, as for `tagmill evaluate`, on which it must be no lower than the version in "
              "production; may be repeated.")  # fmt: skip
@click.option("--min-agreement", type=Share(), metavar="PERCENT",
              help="Least share of images with the answer of the version in production, where both have a result.  "
              "[default: 90%, from 100 images on]")  # fmt: skip
@click.option("--force", is_flag=True, help="Promote it although a gate fails, or none compared it; needs --reason.")
@click.option("--reason", metavar="TEXT", help="Why; it is in the audit log.")
@DEVICE
def promote_command(
    wanted: str,
    test_set: tuple[Path, ...],
    min_agreement: float | None,
    force: bool,
    reason: str | None,
    device: str | None,
) -> None:
    """Make this version the one that NAME alone means, and that the catalog shows where it has a result.

    Gates are checked before: golden samples, parity, accuracy, agreement. If one fails, or neither of the last two can
    be checked against the version in production, nothing changes, and the exit code is 6. Queued runs keep their
    version. A shadow or canary of this version ends.
    """
    from export.promotion.check import check_gates, version_in_production
    from export.promotion.decision import decide
    from tagmill.db.migrate import open_database
    from tagmill.registry.models import require_usable, resolve
    from tagmill.registry.rollout.production import promote
    from tagmill.settings import load_settings
    from training.annotations.torchvision_datasets import resolve_test_folders

    if force and not (reason or "").strip():
        raise InputError("--force needs --reason TEXT: it is in the audit log beside what was overridden")
    settings = load_settings(device=device)
    engine = open_database(settings.database_url)
    chosen = require_usable(resolve(engine, wanted))
    production = version_in_production(engine, chosen.name)
    if production == chosen:
        click.echo(f"{chosen.title} is in production already")
        return
    gates = []
    for gate in check_gates(engine, settings, chosen, production, resolve_test_folders(test_set), min_agreement):
        click.echo(str(gate))
        gates.append(gate)
    overridden = decide(chosen, production, gates, force=force)
    found = {gate.name: gate.to_json() for gate in gates}
    details = {"gates": found} | ({"overridden": overridden} if overridden else {})
    click.echo(promote(engine, chosen.title, reason, details).text)
