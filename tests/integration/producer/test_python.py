"""The functions that Python programs import, with a real worker, Redis and PostgreSQL."""

from collections.abc import Iterator

import pytest
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, tagmill, tagmill_json

from producer import FetchOptions, ReadOptions, Where, results, status, submit, wait
from tagmill.errors import ConfigurationError, InputError, NothingToDo, ServiceDown


@pytest.fixture
def shop(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An installation whose settings are those of this process, and a catalog of 12 images."""
    for name, value in site.env.items():
        if name.startswith("TAGMILL_"):
            monkeypatch.setenv(name, value)
    write_folder(site.folder / "shop", 12)
    rows = "".join(f"sku-{at},shop/{at:05}.png,{'Acme' if at % 2 else 'Other'}\n" for at in range(12))
    (site.folder / "catalog.csv").write_text(f"image_key,uri,brand\n{rows}")
    return site


@pytest.fixture
def tagged(shop: Site) -> Iterator[tuple[Site, int]]:
    """The installation and a run that is done: 6 images of a brand, by two models."""
    with Worker.bare(shop.env, shop.folder / "worker.log"):
        read = ReadOptions(where=Where.parse(["brand=Acme"]))
        sent = submit(shop.folder / "catalog.csv", models=["colors", "color-masks"], batch_size=4, read=read)
        assert (sent.batches, sent.left_out, list(sent.skipped.lines())) == (2, 0, [])
        progress = wait(sent.run, timeout=60)
        assert (progress.state, progress.images, progress.tagged) == ("done", 6, 6)
        yield shop, sent.run


def test_a_program_submits_waits_and_reads_what_the_commands_say(tagged: tuple[Site, int]) -> None:
    site, run = tagged
    found = list(results(run))
    assert [image.image_key for image in found] == [f"sku-{at}" for at in range(1, 12, 2)]
    assert found == list(results(run)) == sorted(results(), key=lambda image: int(image.image_key[4:]))
    assert [image.labels["colors"][0][0] for image in found] == [row["colors.label"] for row in site.rows(run)]
    assert status(run).to_json()["tagged"] == tagmill_json("run", "status", run, env=site.env)["tagged"]

    table = results(run).to_arrow()
    assert table.num_rows == 12
    assert set(table.column("model").to_pylist()) == {"colors", "color-masks"}
    assert results(run, models=["colors"]).arrow_reader().read_all().num_rows == 6
    assert table.column("brand").to_pylist() == ["Acme"] * 12
    assert results(run).models == ("color-masks", "colors")

    assert results(run).write(site.folder / "tags.csv") == 6
    tagmill("results", run, "-o", site.folder / "command.csv", env=site.env)
    assert (site.folder / "tags.csv").read_bytes() == (site.folder / "command.csv").read_bytes()
    assert results(run).write(f"{site.folder}/tags/", format="parquet", shard_rows=4) == 6
    assert [path.name for path in sorted((site.folder / "tags").iterdir())] == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]

    with pytest.raises(NothingToDo, match="were left out"):
        submit(
            site.folder / "catalog.csv",
            models=["colors"],
            rerun="missing",
            read=ReadOptions(limit=2, where=Where.parse(["brand=Acme"])),
        )
    again = submit(site.folder / "shop", models=["colors"], priority="urgent", fetch=FetchOptions(refetch=True))
    assert wait(again.run, timeout=60).tagged == 12


def test_errors_are_those_of_the_commands(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = shop.folder / "catalog.csv"
    for wrong, message in (
        ({"models": ["unknown"]}, "no model unknown"),
        ({"models": "colors"}, "models as a list"),
        ({"models": ["colors"], "priority": "high"}, "choose one of urgent, normal, backfill"),
        ({"models": ["colors"], "rerun": "some"}, "choose one of missing, failed, all"),
        ({"models": ["colors"], "batch_size": 0}, "choose 1 to 4096"),
    ):
        with pytest.raises(InputError, match=message):
            submit(catalog, **wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InputError, match="No such file or directory"):
        submit(shop.folder / "nowhere.csv", models=["colors"])
    for call in (status, wait, results):
        with pytest.raises(InputError, match="no run 99"):
            call(99)
    with pytest.raises(InputError, match="choose one of csv"):
        results().write(shop.folder / "x", format="xlsx")
    run = submit(catalog, models=["colors"]).run
    with pytest.raises(TimeoutError, match=f"run {run}: 12 of 12 images have no outcome yet"):
        wait(run, timeout=0)
    monkeypatch.setenv("TAGMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(ServiceDown, match="is in SQL, do not submit it again"):
        submit(catalog, models=["colors"])
    monkeypatch.setenv("TAGMILL_BROKER_URL", "memory://")
    with pytest.raises(ConfigurationError, match="lives in one process"):
        submit(catalog, models=["colors"])
