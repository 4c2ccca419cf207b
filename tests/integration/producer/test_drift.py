"""`tagmill drift` and what it reads: runs whose figures are known by arithmetic, on SQLite and PostgreSQL."""

import json
import math
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text
from support.drifting import Tagged, classifier, drifting_run
from support.ledger import new_run

from producer import drift
from producer.cli.drift import drift as command
from producer.monitoring.compare import Comparison, compare_runs
from producer.monitoring.figures import GroupDrift, Kind, Limits, ModelDrift
from producer.report.write import ReportOptions, write_report
from tagmill.errors import InputError, NothingToDo
from tagmill.ledger.runs.control import pause_run
from tagmill.settings import Settings
from tagmill.tasks.multilabel import MULTILABEL
from tagmill.tasks.segment import SEGMENT

#: what does not depend on the database
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def alike(count: int, label: str, score: float = 0.9, seller: object = None, **more: Any) -> Tagged:
    return Tagged(count, {label: score}, seller, **more)


BEFORE = [
    alike(300, "hat", 0.9, "a", embedding=(1.0, 0.0)),
    alike(200, "shoe", 0.7, "b", embedding=(0.0, 1.0)),
]
NOW = [
    alike(300, "hat", 0.9, "a", embedding=(1.0, 0.0)),
    alike(50, "hat", 0.5, "b", embedding=(1.0, 0.0)),
    alike(150, "shoe", 0.7, "b", embedding=(0.0, 1.0)),
]


def one(engine: Engine, now: int, before: int, **options: Any) -> ModelDrift:
    """Return the figures of the only model."""
    (found,) = compare_runs(engine, Comparison(now, before, **options)).models
    return found


def named(found: ModelDrift, kind: Kind) -> dict[str | None, GroupDrift]:
    return {group.group: group for group in found.groups if group.kind is kind}


def index(*pairs: tuple[float, float]) -> Any:
    return pytest.approx(sum((p - q) * math.log(p / q) for p, q in pairs))


def test_the_figures_are_those_of_arithmetic(stored: Engine) -> None:
    model = classifier(stored)
    before, now = drifting_run(stored, [model], BEFORE), drifting_run(stored, [model], NOW)
    found = one(stored, now, before, by=("seller",))
    whole = found.whole
    assert whole.labels is not None
    assert whole.scores is not None
    assert whole.distance is not None
    assert (whole.now.images, whole.before.images, whole.now.failed, whole.now.unknown_share) == (500, 500, 0, 0)
    assert whole.labels.value == index((0.7, 0.6), (0.3, 0.4))
    # The reference has scores of 0.7 and 0.9 alone: bins below 0.7 (empty there), from 0.7 and from 0.9.
    assert whole.scores.value == index((0.1, 0.5 / 500), (0.3, 0.4), (0.6, 0.6))
    cosine = (0.7 * 0.6 + 0.3 * 0.4) / math.hypot(0.7, 0.3) / math.hypot(0.6, 0.4)
    assert whole.distance.value == pytest.approx(1 - cosine, abs=1e-6)
    assert whole.distance.chance == pytest.approx(
        ((1 - 0.58) / 500 + (1 - 0.52) / 500) / 2 / math.hypot(0.7, 0.3) / math.hypot(0.6, 0.4), rel=1e-5
    )
    assert whole.failed is not None
    assert whole.failed.value == 0
    labels = named(found, Kind.LABEL)
    assert [(group.title, group.now.images, group.before.images) for group in labels.values()] == [
        ("hat", 350, 300),
        ("shoe", 150, 200),
    ]
    assert labels["hat"].moved == index((0.7, 0.6))
    assert labels["hat"].scores is not None
    assert labels["hat"].scores.value == index((50 / 350, 0.5 / 300), (300 / 350, 1.0))
    assert labels["shoe"].distance is not None
    assert labels["shoe"].distance.value == pytest.approx(0, abs=1e-9)
    sellers = named(found, Kind.COLUMN)
    assert list(sellers) == ["a", "b"]
    assert sellers["a"].labels is not None
    assert sellers["a"].labels.value == 0
    assert sellers["b"].labels is not None
    assert sellers["b"].labels.value == index((0.25, 0.5 / 200), (0.75, 1.0))
    assert sellers["b"].title == "seller=b"
    assert sellers["b"].above == ("labels", "scores")
    assert [group.title for group in found.drifted] == ["all images", "hat", "seller=b"]
    assert [group.title for group in found.movers] == ["shoe", "hat"]


def test_identical_runs_are_at_zero_and_a_run_is_at_zero_from_itself(engine: Engine) -> None:
    model = classifier(engine)
    runs = [drifting_run(engine, [model], BEFORE) for _ in range(2)]
    for reference in runs:
        found = compare_runs(engine, Comparison(runs[1], reference, ("kinds", "kinds@1"), by=("seller",)))
        assert len(found.models) == 1
        assert not found.drifted
        assert found.notes == ()
        for group in found.models[0].groups:
            indexes = [one.value for one in group.indexes.values() if one is not None]
            assert indexes == [0.0] * len(indexes) != []
            assert group.distance is not None
            assert group.distance.value == pytest.approx(0, abs=1e-9)


def test_failed_and_unknown_images_are_counted_by_group(engine: Engine) -> None:
    model = classifier(engine)
    before = drifting_run(engine, [model], [alike(250, "hat", seller="a"), alike(250, "hat", seller=7)])
    broken = Tagged(50, {}, seller=7, failed=True)
    now = [alike(250, "hat", seller="a"), alike(150, "hat", seller=7), alike(50, "unknown", seller=7), broken]
    found = one(engine, drifting_run(engine, [model], now), before, by=("seller",))
    assert found.whole.now.failed_share == 0.1
    assert found.whole.failed is not None
    assert found.whole.failed.value == index((0.1, 0.5 / 500), (0.9, 1.0))
    assert found.whole.now.unknown_share == 50 / 450
    seven = named(found, Kind.COLUMN)["7"]
    assert (seven.now.images, seven.now.failed, seven.now.failed_share) == (200, 50, 0.2)
    assert (seven.now.unknown_share, seven.before.unknown_share) == (0.25, 0.0)
    assert set(seven.above) == {"labels", "failed"}


def test_models_of_several_labels_and_of_masks_are_counted_by_what_they_give(engine: Engine) -> None:
    several, masks = classifier(engine, "tags", MULTILABEL), classifier(engine, "parts", SEGMENT)
    before = [Tagged(300, {"hat": 0.9, "bag": 0.6}, embedding=(1.0, 0.0)), Tagged(100, {}, embedding=(0.0, 1.0))]
    now = [Tagged(200, {"hat": 0.9, "bag": 0.4}, embedding=(1.0, 0.0)), Tagged(200, {}, embedding=(0.0, 1.0))]
    of_runs = [drifting_run(engine, [several, masks], images) for images in (now, before)]
    parts, tags = compare_runs(engine, Comparison(of_runs[0], of_runs[1])).models
    # An image without a label is counted once, as having none.
    assert tags.whole.labels is not None
    assert tags.whole.labels.value == index((0.5, 3 / 7), (0.5 / 400, 3 / 7), (0.5, 1 / 7))
    assert parts.whole.labels is not None
    assert parts.whole.labels.value == index((1 / 3, 3 / 7), (1 / 3, 3 / 7), (1 / 3, 1 / 7))
    for found in (parts, tags):
        assert (found.whole.now.images, found.whole.before.images) == (400, 400)
        assert found.whole.distance is not None
        assert found.whole.distance.value == pytest.approx(1 - 4 / math.sqrt(20), abs=1e-6)


@ON_SQLITE
def test_small_groups_get_no_verdict_and_the_largest_are_shown(engine: Engine) -> None:
    model = classifier(engine)
    before = drifting_run(engine, [model], [*BEFORE, *(alike(1, "hat", seller=f"s{at}") for at in range(5))])
    now = drifting_run(engine, [model], [*NOW, alike(20, "bag", seller="new")])
    wanted = Comparison(now, before, by=("seller",), most_groups=3, limits=Limits(least_images=100))
    found = compare_runs(engine, wanted)
    groups = named(found.models[0], Kind.COLUMN)
    assert list(groups) == ["a", "b", "new"]
    assert (groups["new"].judged, groups["new"].above, groups["new"].before.images) == (False, (), 0)
    assert any("less frequent values of seller are not shown" in note for note in found.notes)
    assert any("fewer than 100 images in one of the runs" in note for note in found.notes)


@ON_SQLITE
def test_other_versions_and_unfinished_runs_are_said(engine: Engine) -> None:
    old, new, other = classifier(engine), classifier(engine), classifier(engine, "others")
    before = drifting_run(engine, [old, other], BEFORE)
    now = drifting_run(engine, [new], [*BEFORE, alike(500, "hat")], batches=1)
    pause_run(engine, now)
    found = compare_runs(engine, Comparison(now, before))
    assert (found.models[0].version, found.models[0].reference_version) == (2, 1)
    assert found.notes == (
        f"run {now} is paused: 500 of 1,000 images have no outcome, and the figures are of the others",
        f"only run {before} has others@1: not compared",
        f"run {now} has kinds@2, run {before} has kinds@1: what differs may come from the model, not from the images",
    )
    assert found.models[0].whole.now.images == 500


def test_what_cannot_be_compared_is_one_clear_line(engine: Engine) -> None:
    model, other = classifier(engine), classifier(engine, "others")
    run, strange, empty = (
        drifting_run(engine, [model], [alike(3, "hat", seller="a")]),
        drifting_run(engine, [other], [alike(3, "hat")]),
        new_run(engine, model),
    )
    mistakes = [
        (Comparison(run, 999), InputError, "no run 999; see `tagmill run list`"),
        (Comparison(run, empty), NothingToDo, f"run {empty} is queued and has no tagged image: nothing to compare"),
        (Comparison(run, strange), InputError, f"in common: run {run} has kinds@1, run {strange} has others@1"),
        (Comparison(run, run, models=("none",)), InputError, "no model none; registered are: kinds, others"),
        (Comparison(run, run, models=("others",)), InputError, f"run {run} has no result of others@1"),
        (Comparison(run, run, by=("brand",)), InputError, f"no entry of run {run} has such a column; it has seller"),
        (Comparison(strange, strange, by=("brand",)), InputError, "it has no further columns: its manifest has none"),
    ]
    for wanted, error, message in mistakes:
        with pytest.raises(error, match=message.replace("`", ".")):
            compare_runs(engine, wanted)


def test_odd_columns_and_values_are_found(engine: Engine) -> None:
    model = classifier(engine)
    values = ["a", True, 1.5, ["x", "y"], None, 'o\'hara "q" 👗']
    run = drifting_run(engine, [model], [alike(2, "hat", seller=value) for value in values])
    found = one(engine, run, run, by=("seller",))
    groups = named(found, Kind.COLUMN)
    assert set(groups) == {"a", "true", "1.5", '["x","y"]', None, 'o\'hara "q" 👗'}
    assert all((group.now.images, group.before.images) == (2, 2) for group in groups.values())


def invoke(engine: Engine, monkeypatch: pytest.MonkeyPatch, *words: object) -> Result:
    monkeypatch.setenv("TAGMILL_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    return CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)


def test_the_command_ends_with_5_above_the_threshold_and_stores_what_it_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = classifier(engine)
    before, now = drifting_run(engine, [model], BEFORE), drifting_run(engine, [model], NOW)
    metrics = tmp_path / "drift.prom"
    for _ in range(2):  # a second time replaces what the first one stored
        done = invoke(engine, monkeypatch, now, "--reference", before, "--by", "seller", "--prometheus", metrics)
        assert (done.exception, done.return_value) == (None, 5)
        assert f"run {now} has drifted from run {before}" in done.stdout
        assert "kinds, seller=b: PSI of labels is 1." in done.stdout
    statement = "SELECT kind, column_name, group_value, images, above, drifted FROM run_drift ORDER BY number"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement))]
    assert rows == [
        ("all", None, None, 500, "scores", True),
        ("label", None, "hat", 350, "scores", True),
        ("label", None, "shoe", 150, None, None),
        ("column", "seller", "a", 300, "", False),
        ("column", "seller", "b", 200, "labels,scores", True),
    ]
    written = metrics.read_text()
    assert 'tagmill_drift_psi{column="seller",kind="column",model="kinds",of="labels"} 1.' in written
    assert f'"{now}"' not in written
    calm = invoke(engine, monkeypatch, now, "--reference", before, "--threshold", 3, "--json")
    assert calm.return_value == 0
    figures = json.loads(calm.stdout)
    assert (figures["drifted"], figures["models"][0]["groups"][0]["now"]["images"]) == (False, 500)
    far = invoke(engine, monkeypatch, now, "--reference", before, "--threshold", 3, "--max-distance", 0.005)
    assert far.return_value == 5
    assert "the mean embedding moved by 0.0" in far.stdout


@ON_SQLITE
def test_metrics_need_a_name_that_the_collector_reads(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    run = drifting_run(engine, [classifier(engine)], [alike(3, "hat")])
    done = invoke(engine, monkeypatch, run, "--reference", run, "--prometheus", "drift.txt")
    assert isinstance(done.exception, InputError)
    assert "names end in .prom" in str(done.exception)


@ON_SQLITE
def test_the_report_of_a_run_shows_the_shares_of_both_runs(engine: Engine, tmp_path: Path) -> None:
    model = classifier(engine)
    before, now = drifting_run(engine, [model], BEFORE), drifting_run(engine, [model], NOW)
    out = tmp_path / "report.html"
    for reference, said in ((before, True), (None, False)):
        options = ReportOptions(images=0, reference=reference)
        write_report(engine, now, out, Settings(), options, lambda *_: nullcontext(lambda: None))
        page = out.read_text(encoding="utf-8")
        assert ('id="drift"' in page) is said
        said_of_drift = " ".join(re.sub(r"<[^>]+>", " ", page).split())
        assert (f"Run {now} has drifted from run {before}." in said_of_drift) is said
        assert ("hat 60.0% 70.0% 0.015" in said_of_drift) is said
        assert ("kinds, all images: PSI of scores is" in said_of_drift) is said
    with pytest.raises(InputError, match="no run 999"):
        write_report(engine, now, out, Settings(), ReportOptions(reference=999), lambda *_: nullcontext(lambda: None))


@ON_SQLITE
def test_a_program_gets_the_figures_and_stores_them(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(engine)
    before, now = drifting_run(engine, [model], BEFORE), drifting_run(engine, [model], NOW)
    monkeypatch.setenv("TAGMILL_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    found = drift(now, before, by=["seller"], threshold=0.5)
    assert found.drifted
    assert [group.title for group in found.models[0].drifted] == ["hat", "seller=b"]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM run_drift WHERE drifted")).scalar_one() == 2
    with pytest.raises(InputError, match="as lists"):
        drift(now, before, by="seller")
