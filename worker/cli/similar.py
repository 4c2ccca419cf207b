"""`tagmill similar`: the images that look most like one."""

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from tagmill.cli.commands import missing_extra
from tagmill.cli.param_types import AS_JSON, DATABASE, DEVICE
from tagmill.db.migrate import open_database
from tagmill.errors import BundleError, ExitCode, InputError
from tagmill.locations.schemes import url_scheme
from tagmill.registry.models import Model
from tagmill.registry.open_store import open_store
from tagmill.registry.store import BundleUnavailableError
from tagmill.search.models import embedding_model
from tagmill.search.similar import Choice, SimilarImage, is_known, similar_to_key, similar_to_vector
from tagmill.settings import Settings, load_settings
from tagmill.text import legible


@click.command()
@click.argument("image", metavar="IMAGE|KEY")
@click.option("--k", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many images.")
@click.option("--model", "wanted", metavar="NAME[@VERSION]",
              help="Whose embeddings are compared; needed if several models give one.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Also images that the catalog no longer shows.")
@click.option("--exact", is_flag=True, help="Compare with every embedding, although there is an index.")
@click.option("--bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.onnx",
              help="The model's bundle, if it is not in TAGMILL_MODEL_STORE.")  # fmt: skip
@click.option("--full-urls", is_flag=True, help="Show logins and signatures of URLs.")
@DEVICE
@DATABASE
@AS_JSON
def similar(
    image: str,
    k: int,
    wanted: str | None,
    everything: bool,
    exact: bool,
    bundle: Path | None,
    full_urls: bool,
    device: str | None,
    database_url: str | None,
    as_json: bool,
) -> int:
    """Find the images that look most like one, by the embeddings of a model.

    The image is a key of the catalog, or else a file or URL, which the model's bundle then embeds here. To name a file
    whose path is also a key, write ./FILE.
    """
    settings = load_settings(database_url=database_url, device=device)
    engine = open_database(settings.database_url)
    model = embedding_model(engine, wanted)
    choice = Choice(k, everything, exact, full_urls)
    if not _is_image(engine, image):
        found = similar_to_key(engine, model, image, choice)
    else:
        found = similar_to_vector(engine, model, _embedded(settings, model, image, bundle), choice)
    _show(found, as_json)
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


def _is_image(engine: Engine, image: str) -> bool:
    """Return whether the argument is a file or URL to embed, and no key."""
    if not image.startswith(("./", "/")) and is_known(engine, image):
        return False
    return url_scheme(image) is not None or Path(image).is_file()


def _embedded(settings: Settings, model: Model, image: str, bundle: Path | None) -> NDArray[np.float32]:
    try:
        from worker.inference.session_cache import NamedBundles
        from worker.local.embed import embed_image
    except ModuleNotFoundError as error:
        raise missing_extra("similar IMAGE", error, "cpu") from error
    files = open_store(settings) if bundle is None else NamedBundles.of([bundle])
    if isinstance(files, NamedBundles) and model.sha256 not in files.files:
        raise InputError(f"{bundle}: is not the bundle of {model.title}, whose sha256 is {model.sha256[:12]}...")
    try:
        return embed_image(settings, files, model.sha256, image)
    except BundleUnavailableError as error:
        raise BundleError(f"{error}; or name its file with --bundle") from error


def _show(found: list[SimilarImage], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    if not found:
        click.echo("no other image has an embedding", err=True)
    for one in found:
        for shown in one.keys:
            click.echo(f"{one.similarity:.4f}  {legible(shown.key)}  {legible(shown.uri)}")
        if one.shown_by > len(one.keys):
            click.echo(f"        and {one.shown_by - len(one.keys):,} further keys")
