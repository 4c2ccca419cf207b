"""`tagmill train svc`: from images to a bundle with the scores of the scikit-learn classifier."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.svm import SVC

from export.build import ExportResult, export_bundle
from export.evaluate import evaluate
from tagmill.bundles.metadata import Precision
from tagmill.errors import InputError
from training.annotations.folders import Folders
from training.checkpoint import FILE, load, read, write
from training.cli.train import train
from training.data.arrays import Arrays
from training.evaluation.predict import to_pixels
from training.models.hog import Hog, hog_width
from training.models.svm import Features, SupportVectors, least_margins
from training.recipes.svc import DEFAULTS, limited, train_svc
from worker.inference.session import Session

torch.set_num_threads(1)

SMALL = replace(DEFAULTS, size=16)
#: an image of 16 pixels for each category, without noise
BARS = {
    "across": np.arange(16)[:, None] // 4 % 2 * np.ones((16, 16)),
    "down": np.arange(16)[None, :] // 4 % 2 * np.ones((16, 16)),
    "slanted": np.add.outer(np.arange(16), np.arange(16)) // 4 % 2,
}


def draw_bars(folder: Path, categories: tuple[str, ...] = tuple(BARS), each: int = 12, seed: int = 0) -> Path:
    """Write noisy gray images whose category is the direction of their bars."""
    random = np.random.default_rng(seed)
    for category in categories:
        (folder / category).mkdir(parents=True)
        for number in range(each):
            gray = 120 * BARS[category] + random.integers(0, 130, (16, 16))
            Image.fromarray(gray.astype(np.uint8)).save(folder / category / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module", params=list(Features))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("svc")
    data, test = draw_bars(folder / "train", each=20), draw_bars(folder / "test", each=70, seed=1)
    train_svc(Folders((data,), (), (test,)), folder / "run", replace(SMALL, features=request.param))
    return folder / "run"


def noise(count: int, size: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult]:
    """Return the bundle of the run, with its two best labels."""
    bundle = tmp_path_factory.mktemp("exported") / "svc.onnx"
    return bundle, export_bundle(run, bundle, top_k=2)


def test_a_bundle_scores_two_hundred_images_as_the_checkpoint_does(
    run: Path, exported: tuple[Path, ExportResult]
) -> None:
    bundle, made = exported
    assert made.parity.images == 200
    assert made.parity.max_score_difference < 1e-4
    assert made.parity.label_agreement == 1.0
    session = Session(bundle, device="cpu")
    assert session.top_k == 2
    for count in (1, 3):
        assert session.run(noise(count, 16)).scores.sum(1) == pytest.approx(1.0, abs=1e-5)
    figures = evaluate(session, [run.parent / "test"])
    checkpoint = load(run)
    assert figures["accuracy"] == pytest.approx(checkpoint.metrics["accuracy"], abs=1e-6)
    assert made.spec.temperature == checkpoint.temperature


def test_the_same_run_exports_to_the_same_bytes(run: Path, exported: tuple[Path, ExportResult], tmp_path: Path) -> None:
    export_bundle(run, tmp_path / "svc.onnx", top_k=2)
    assert (tmp_path / "svc.onnx").read_bytes() == exported[0].read_bytes()


def test_a_lower_precision_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp32 alone"):
        export_bundle(run, tmp_path / "svc.onnx", precision=Precision.INT8)


def test_two_labels_train_and_export(tmp_path: Path) -> None:
    data = draw_bars(tmp_path / "train", ("across", "down"), each=20)
    train_svc(Folders((data,)), tmp_path / "run", SMALL)
    made = export_bundle(tmp_path / "run", tmp_path / "svc.onnx")
    assert made.parity.max_score_difference < 1e-4
    assert made.parity.label_agreement == 1.0


def voted(decisions: torch.Tensor, labels: int) -> np.ndarray:  # type: ignore[type-arg]
    """Return the label that wins most pairs, the first of equal ones, as libsvm predicts."""
    votes = np.zeros((len(decisions), labels), int)
    for column, pair in enumerate(combinations(range(labels), 2)):
        winners = np.where(decisions[:, column] > 0, *pair)
        votes[np.arange(len(decisions)), winners] += 1
    return votes.argmax(1)


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_the_decisions_are_those_of_the_fitted_classifier(labels: int) -> None:
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(60, 4)).astype(np.float32), np.arange(60) % labels
    fitted = SVC(gamma=0.3, decision_function_shape="ovo").fit(features, targets)
    network = SupportVectors(8, labels, features="pixels", components=4, vectors=len(fitted.support_), gamma=0.3)
    others = random.normal(size=(40, 4))
    decisions = SupportVectors.of(fitted, network.extract, 8).decisions(torch.from_numpy(others))
    wanted = fitted.decision_function(others)
    # Of two labels scikit-learn returns one column, positive where the second label wins.
    assert decisions.numpy() == pytest.approx(wanted if labels > 2 else -wanted[:, None], abs=1e-12)
    assert (voted(decisions, labels) == fitted.predict(others)).all()


def test_the_logit_of_a_label_is_its_least_margin() -> None:
    # 0 beats 1 by 2, 0 beats 2 by 0.5, 2 beats 1 by 3
    found = least_margins(torch.tensor([[2.0, 0.5, -3.0]]), 3)
    assert found.tolist() == [[0.5, -3.0, -0.5]]


def test_the_label_that_wins_every_pair_has_the_highest_logit() -> None:
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(200, 3)) + 2 * np.eye(4)[np.arange(200) % 4, :3], np.arange(200) % 4
    fitted = SVC(decision_function_shape="ovo").fit(features, targets)
    found = least_margins(torch.from_numpy(fitted.decision_function(features)), 4)
    winners = (found > 0).any(1).numpy()
    assert winners.mean() > 0.9
    assert (found.argmax(1).numpy() == fitted.predict(features))[winners].all()


def test_hog_features_depend_on_the_direction_of_an_edge_and_not_on_its_brighter_side() -> None:
    upright = torch.zeros(1, 1, 16, 16)
    upright[..., 8:] = 1.0
    hog = Hog(16)
    found = hog(torch.cat([upright, 1 - upright, 0.5 * upright, upright.mT]))
    assert found.shape == (4, hog_width(16))
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-3)
    assert (found[3] - found[0]).abs().max() > 0.1
    assert hog(torch.full((1, 1, 16, 16), 0.3)).abs().max() == 0


def test_a_limit_draws_each_label_by_its_share_and_at_least_once() -> None:
    targets = np.repeat([0, 1, 2], [60, 38, 2])
    arrays = Arrays(noise(100, 4), targets, np.zeros(100, np.int64), [None] * 100, [])  # type: ignore[list-item]
    assert np.bincount(limited(arrays, 3, 50, 0).targets).tolist() == [30, 19, 1]
    assert np.bincount(limited(arrays, 3, 3, 0).targets).tolist() == [1, 1, 1]
    first, again, other = (limited(arrays, 3, 50, seed).pixels for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("limit", [2, 1000])
def test_a_limit_below_the_labels_or_above_the_images_is_refused(limit: int, tmp_path: Path) -> None:
    data = draw_bars(tmp_path / "train", each=4)
    with pytest.raises(InputError, match=f"--limit {limit}: must be from 3, one of each label, to 9"):
        train_svc(Folders((data,)), tmp_path / "run", replace(SMALL, limit=limit))


def test_a_single_category_is_refused(tmp_path: Path) -> None:
    data = draw_bars(tmp_path / "train", ("down",), each=4)
    with pytest.raises(InputError, match="at least two"):
        train_svc(Folders((data,)), tmp_path / "run", SMALL)


def test_a_size_too_small_for_hog_is_refused_and_leaves_no_run(tmp_path: Path) -> None:
    data = draw_bars(tmp_path / "train", each=2)
    with pytest.raises(InputError, match="at least 8 pixels, not 6; choose another --size"):
        train_svc(Folders((data,)), tmp_path / "run", replace(SMALL, size=6, features=Features.HOG))
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_resumed_has_no_hint_to_resume_it(tmp_path: Path) -> None:
    data, run = draw_bars(tmp_path / "train", each=4), tmp_path / "run"
    run.mkdir()
    (run / FILE).touch()
    with pytest.raises(InputError, match="already holds a run; name another folder with --out, or remove this one"):
        train_svc(Folders((data,)), run, SMALL)


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    stored = read(run / FILE)
    (tmp_path / FILE).write_bytes((run / FILE).read_bytes()[:-400])
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path)
    # counts that do not add up to the number of vectors
    write(stored | {"state": stored["state"] | {"counts": stored["state"]["counts"] + 1}}, tmp_path / FILE)
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path)
    write(stored | {"state": {k: v for k, v in stored["state"].items() if k != "intercepts"}}, tmp_path / FILE)
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path)


def test_the_logits_of_an_image_do_not_depend_on_the_batch(run: Path) -> None:
    network = load(run).network()
    pixels = to_pixels(noise(5, 16))
    with torch.inference_mode():
        whole, one = network(pixels), network(pixels[:1])
    assert whole.shape == (5, 3)
    assert one[0] == pytest.approx(whole[0], abs=1e-5)


@pytest.mark.usefixtures("figures")
def test_the_command_trains_with_the_options_it_was_given(tmp_path: Path) -> None:
    data = draw_bars(tmp_path / "train", each=10)
    words = ["svc", "--data", str(data), "--out", str(tmp_path / "run"), "--features", "hog", "--size", "16"]
    done = CliRunner().invoke(train, [*words, "--limit", "12", "--c", "3", "--seed", "5"])
    assert done.exit_code == 0, done.output
    assert "validation accuracy" in done.output
    values = load(tmp_path / "run").hyperparameters
    assert values == {"size": 16, "features": "hog", "components": 50, "c": 3.0, "limit": 12, "seed": 5}
