"""Gates before a version comes into production."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, create_engine, text
from support.bundles import COLORS, write_classifier
from support.compared import Compared, compared_run, two_versions
from support.image_fixtures import write_image

from export.promotion.agreement import agreement_gate
from export.promotion.bundle_gates import parity_gate
from export.promotion.gate import GateFailedError, GateStatus
from tagmill.bundles.metadata import BundleSpec, Precision
from tagmill.cli.commands import cli
from tagmill.cli.param_types import Share
from tagmill.db.connection import connect
from tagmill.db.migrate import upgrade
from tagmill.errors import BundleError, ExitCode, InputError
from tagmill.images.preprocess import PreprocessSpec
from tagmill.tasks.classify import CLASSIFY


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with colors@1 in production, and colors@2, which gives the label that fits least."""
    monkeypatch.setenv("TAGMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'tagmill.db'}")
    monkeypatch.setenv("TAGMILL_MODEL_STORE", str(tmp_path / "models"))
    engine = connect(f"sqlite:///{tmp_path / 'tagmill.db'}")
    upgrade(engine)
    engine.dispose()
    run("add", write_classifier(tmp_path / "colors.onnx"))
    run("add", write_classifier(tmp_path / "wrong.onnx", sharpness=-20.0))
    for color in COLORS:
        for number in range(4):
            write_image(tmp_path / "test" / color / f"{number}.png", color, shade=number)
    return tmp_path


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["model", *map(str, arguments)])
    if isinstance(done.exception, Exception):
        raise done.exception
    return done


def audit(site: Path) -> list[tuple[Any, ...]]:
    engine = create_engine(f"sqlite:///{site / 'tagmill.db'}")
    chosen = "from_version, to_version, reason, details FROM audit_log WHERE action = 'promote' ORDER BY id"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(f"SELECT {chosen}"))]
    engine.dispose()
    return [(*row[:3], json.loads(row[3])) for row in rows]


def test_a_failed_gate_changes_nothing_unless_it_is_overridden_with_a_reason(site: Path) -> None:
    first = run("promote", "colors@1", "--test-set", site / "test").output.splitlines()
    assert first[0].startswith("golden samples  not checked: the bundle has none")
    assert first[1].startswith("parity          not checked: the bundle records no proof")
    assert first[2].startswith("accuracy        passed: accuracy 100.0% (75.7% to 100.0%) on 12 images; no version")
    assert first[3:] == [
        "agreement       not checked: no version is in production to compare it with",
        "colors@1 is in production",
    ]
    assert run("promote", "colors@1").output == "colors@1 is in production already\n"
    with pytest.raises(
        GateFailedError, match=r"colors@2 is not promoted: accuracy failed; .*--force --reason"
    ) as error:
        run("promote", "colors@2", "--test-set", site / "test")
    assert error.value.exit_code is ExitCode.GATE_FAILED
    assert '"stage": "production"' in run("show", "colors@1").output
    with pytest.raises(InputError, match="--force needs --reason"):
        run("promote", "colors@2", "--force", "--reason", " ")
    assert len(audit(site)) == 1
    forced = run("promote", "colors@2", "--test-set", site / "test", "--force", "--reason", "the test set is wrong")
    assert "accuracy        failed: accuracy 0.0%, colors@1 has 100.0% on 12 images: -100.0 points" in forced.output
    assert forced.output.endswith("colors@2 is in production; before: colors@1\n")
    before, after, reason, details = audit(site)[1]
    assert (before, after, reason, details["overridden"]) == (1, 2, "the test set is wrong", ["accuracy"])
    assert details["gates"]["accuracy"]["difference"] == -1.0
    assert details["gates"]["golden samples"]["status"] == "not checked"


def test_a_version_that_nothing_compares_replaces_none_unless_that_is_forced(site: Path) -> None:
    run("promote", "colors@1")
    with pytest.raises(
        GateFailedError, match=r"neither accuracy nor agreement with colors@1 was checked; .*--test-set, or .* shadow"
    ):
        run("promote", "colors@2")
    assert len(audit(site)) == 1
    run("promote", "colors@2", "--force", "--reason", "labels are new")
    assert audit(site)[1][3]["overridden"] == ["accuracy", "agreement"]


def test_a_version_without_its_file_is_not_tried_and_a_rollback_to_it_warns(site: Path) -> None:
    run("promote", "colors@1")
    run("promote", "colors@2", "--force", "--reason", "labels are new")
    for file in (site / "models").iterdir():
        file.unlink()
    with pytest.raises(BundleError, match=r"^colors@1: .*is missing.*; register its file again: tagmill model add$"):
        run("canary", "colors@1", "--share", "10%")
    back = run("rollback", "colors")
    assert back.stdout == "colors@1 is in production; before: colors@2\n"
    assert back.stderr.startswith("warning: no worker can tag with it: colors@1: ")


@pytest.mark.parametrize("share", ["1e-9%", "0.009%", "100.1%", "nan%", "10"])
def test_a_share_is_a_percentage_that_some_products_can_be_in(share: str) -> None:
    refused = CliRunner().invoke(cli, ["model", "shadow", "colors@2", "--share", share])
    assert refused.exit_code == ExitCode.USAGE
    assert "is not a percentage from 0.01% to 100%" in " ".join(refused.output.split())
    assert Share().convert("0.01%", None, None) == 0.0001


def test_a_version_without_its_file_is_not_promoted(site: Path) -> None:
    for file in (site / "models").iterdir():
        file.unlink()
    with pytest.raises(GateFailedError, match="golden samples failed"):
        run("promote", "colors@1")


def test_labels_that_one_of_the_two_does_not_have_fail_the_gate(site: Path) -> None:
    run("promote", "colors@1")
    write_image(site / "test" / "purple" / "1.png", "red")
    with pytest.raises(GateFailedError, match="accuracy failed"):
        run("promote", "colors@2", "--test-set", site / "test")


def test_agreement_has_a_floor_where_both_have_results(engine: Engine, tmp_path: Path) -> None:
    first, second = two_versions(engine)
    assert agreement_gate(engine, second, None, 0.9).status is GateStatus.NOT_CHECKED
    assert agreement_gate(engine, second, first, None).status is GateStatus.NOT_CHECKED
    assert agreement_gate(engine, second, first, 0.9).status is GateStatus.FAILED  # it was asked for
    images = [Compared(f"{n}", {"hat": 0.8}, {"hat" if n < 7 else "bag": 0.9}) for n in range(10)]
    compared_run(engine, tmp_path / "shop", (first, second), images)
    gates = {floor: agreement_gate(engine, second, first, floor) for floor in (None, 0.7, 0.71)}
    assert [gate.status for gate in gates.values()] == [GateStatus.NOT_CHECKED, GateStatus.PASSED, GateStatus.FAILED]
    assert gates[0.71].detail.startswith("70.0% (39.7% to 89.2%) of 10 images get what kinds@1 gave, below 71.0%")


@pytest.mark.parametrize(
    ("proof", "precision", "status"),
    [
        ({"max_score_difference": 5e-7, "images": 200}, Precision.FP32, GateStatus.PASSED),
        ({"max_difference": 5e-7, "images": 30}, Precision.FP32, GateStatus.PASSED),
        ({"max_score_difference": 5e-3, "images": 200}, Precision.FP32, GateStatus.FAILED),
        ({"max_score_difference": 5e-3, "images": 200}, Precision.FP16, GateStatus.PASSED),
        ({}, Precision.FP32, GateStatus.FAILED),
        (None, Precision.FP32, GateStatus.NOT_CHECKED),
    ],
)
def test_parity_is_read_from_the_bundle(proof: object, precision: Precision, status: GateStatus) -> None:
    provenance = {} if proof is None else {"parity": proof}
    spec = BundleSpec("kinds", CLASSIFY, ("a", "b"), PreprocessSpec(8, 8), provenance=provenance, precision=precision)
    assert parity_gate(spec).status is status
