"""The metadata of a bundle, and the session that loads it."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bundles import COLORS, write_classifier, write_segmenter

from tagmill.broker.message import BatchMessage
from tagmill.bundles.metadata import GOLDEN, LONGEST, BundleSpec, Precision, sha256_of
from tagmill.db.schema import label_name, model
from tagmill.errors import BundleError, ConfigurationError, InputError
from tagmill.images.preprocess import Geometry, PreprocessSpec
from tagmill.tasks.base import task_named, task_names
from tagmill.tasks.classify import CLASSIFY, best_labels
from worker.inference.session import CPU, Session

SPEC = BundleSpec("shirts", CLASSIFY, ("red", "blue"), PreprocessSpec(32, 48, Geometry.LETTERBOX))

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
specs = st.builds(
    BundleSpec,
    name=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
    task=st.sampled_from([task_named(name) for name in task_names() if task_named(name).least_labels]),
    labels=st.lists(names, min_size=1, max_size=9, unique=True).map(tuple),
    preprocess=st.builds(PreprocessSpec, st.integers(1, 4096), st.integers(1, 4096), st.sampled_from(Geometry)),
    temperature=st.floats(0.05, 20),
    thresholds=st.dictionaries(names, st.floats(0, 1)),
    precision=st.sampled_from(Precision),
    embedding=st.integers(0, 512),
    activation_map=st.booleans(),
    metrics=st.dictionaries(names, st.floats(0, 1)),
    provenance=st.dictionaries(names, names),
)


@given(specs)
def test_metadata_survives_a_round_trip_through_strings(spec: BundleSpec) -> None:
    assert BundleSpec.from_metadata(spec.to_metadata()) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"tagmill": "2"},
        {"task": '"detect"'},
        {"labels": '["a", "a"]'},
        {"labels": "[]"},
        {"labels": "{"},
        {"preprocess": '{"height": 1, "width": 1, "geometry": "squash"}'},
        {"background": '"sky"'},
        {"temperature": '"warm"'},
        {"precision": '"int4"'},
        {"embedding": "513"},
        {"embedding": "-1"},
    ],
)
def test_unknown_metadata_raises(change: dict[str, str]) -> None:
    with pytest.raises(BundleError):
        BundleSpec.from_metadata(SPEC.to_metadata() | change)


def test_a_figure_that_there_is_none_of_is_none_which_sql_can_store() -> None:
    metadata = SPEC.to_metadata() | {"metrics": '{"macro_f1": NaN, "worst": -Infinity, "accuracy": 0.5}'}
    assert BundleSpec.from_metadata(metadata).metrics == {"macro_f1": None, "worst": None, "accuracy": 0.5}


def test_missing_metadata_raises() -> None:
    for key in set(SPEC.to_metadata()) - {"precision", "embedding", "activation_map"}:
        with pytest.raises(BundleError):
            BundleSpec.from_metadata({name: text for name, text in SPEC.to_metadata().items() if name != key})


#: text that PostgreSQL refuses: too long, NUL, a lone surrogate
MISFITS = ["x" * (LONGEST + 1), "re\0d", "re\ud800d"]


def test_labels_and_names_may_be_as_long_as_their_columns() -> None:
    assert {column.type.length for column in (label_name.c.name, model.c.name)} == {LONGEST}
    fits = replace(SPEC, name="n" * LONGEST, labels=("ß" * LONGEST, "", "a/b\n"))
    assert BundleSpec.from_metadata(fits.to_metadata()) == fits


@pytest.mark.parametrize("text", MISFITS, ids=["long", "nul", "surrogate"])
def test_a_label_or_name_that_sql_cannot_store_is_refused_in_one_line(text: str) -> None:
    said = SPEC.to_metadata()
    for change, what in (({"labels": ["red", text]}, "bundle shirts: label"), ({"name": text}, "its name is")):
        with pytest.raises(BundleError, match=rf"{what}.*longer than 200 .*; rename it$") as caught:
            BundleSpec.from_metadata(said | {key: json.dumps(value) for key, value in change.items()})
        assert len(str(caught.value)) < 200
        str(caught.value).encode()


@pytest.mark.parametrize("name", ["shirts", "7", "Größe 3.1_b-2", "Gro\u0308ße", "हिन्दी", "衣服", "a..b", "n" * 200])
def test_letters_of_any_script_may_name_a_new_bundle(name: str) -> None:
    assert BundleSpec.from_metadata(replace(SPEC, name=name).to_metadata()).name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "../../x", "/x", "a/b", "a\\b", "a@1", "-x", " x", "a\n", "a:b"]
)
def test_a_bundle_with_a_name_that_could_be_a_path_is_not_written(name: str) -> None:
    with pytest.raises(
        InputError, match=r"^model name '.*' must begin with a letter or digit and hold only .* give an"
    ):
        replace(SPEC, name=name).to_metadata()


def test_an_older_bundle_with_such_a_name_is_still_read() -> None:
    assert BundleSpec.from_metadata(SPEC.to_metadata() | {"name": '"shop/shirts (2)"'}).name == "shop/shirts (2)"


def test_an_older_bundle_without_a_precision_is_float32() -> None:
    metadata = SPEC.to_metadata()
    del metadata["precision"]
    assert BundleSpec.from_metadata(metadata).precision is Precision.FP32


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").is_file()
    with pytest.raises(BundleError, match="its weights lie in another file"):
        Session(path, "cpu")


def test_a_session_reads_the_metadata_and_infers(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    session = Session(path, "cpu")
    assert (session.spec.labels, session.provider, session.sha256) == (COLORS, CPU, sha256_of(path))
    images = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    images[0, ..., 0] = images[1, ..., 1] = images[2, ..., 2] = 255
    prediction = session.run(images)
    assert prediction.scores.argmax(1).tolist() == [0, 1, 2]
    assert prediction.scores.sum(1) == pytest.approx(1.0)
    assert prediction.mask is None


def test_a_segmenter_gives_a_mask_at_its_own_resolution(tmp_path: Path) -> None:
    session = Session(write_segmenter(tmp_path / "s.onnx"), "cpu")
    image = np.full((1, 32, 32, 3), 255, dtype=np.uint8)
    image[0, 8:16, :, 1:] = 0
    mask = session.run(image).mask
    assert mask is not None
    assert mask.dtype == np.uint8
    assert (mask[0] == 1).sum() == 8 * 32


def test_any_batch_size_and_any_thread_gives_the_same_scores(tmp_path: Path) -> None:
    session = Session(write_classifier(tmp_path / "c.onnx"), "cpu", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    whole = session.run(images).scores
    parts: dict[int, np.ndarray] = {}

    def infer(start: int) -> None:
        parts[start] = session.run(images[start : start + 7]).scores

    threads = [threading.Thread(target=infer, args=(start,)) for start in range(0, 40, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose(np.concatenate([parts[start] for start in sorted(parts)]), whole, atol=1e-6)


def with_metadata(path: Path, **changes: str) -> Path:
    """Change the metadata of a bundle."""
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, said | changes)
    onnx.save(model, path)
    return path


def test_a_graph_that_does_not_match_its_metadata_is_refused(tmp_path: Path) -> None:
    size = with_metadata(write_classifier(tmp_path / "c.onnx"), preprocess=json.dumps(PreprocessSpec(64, 64).to_dict()))
    with pytest.raises(BundleError, match="its input is not uint8"):
        Session(size, "cpu")
    labels = with_metadata(write_classifier(tmp_path / "c.onnx"), labels='["red", "green"]')
    with pytest.raises(BundleError, match=r"c\.onnx: its scores are not one for each of its 2 labels; export it again"):
        Session(labels, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"tagmill": "2"},
        {"task": '"detect"'},
        {"labels": '["a", "a"]'},
        {"preprocess": "{}"},
        {"background": '"sky"'},
        {GOLDEN: "[]"},
    ],
)
def test_a_bundle_with_unknown_metadata_is_refused_with_its_path_and_what_to_do(
    change: dict[str, str], tmp_path: Path
) -> None:
    path = with_metadata(write_classifier(tmp_path / "c.onnx"), **change)
    with pytest.raises(BundleError, match=rf"^{path}: .*; make a bundle with `tagmill export`$"):
        Session(path, "cpu")


def test_a_graph_that_onnx_runtime_does_not_know_is_refused_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    model = onnx.load(path)
    model.graph.node[-1].op_type = "SoftmaxOfTomorrow"
    onnx.save(model, path)
    advice = "; choose another --device, or export the bundle again"
    with pytest.raises(BundleError, match=rf"^{path}: ONNX Runtime cannot load it: .*{advice}$"):
        Session(path, "cpu")


def test_cuda_that_is_not_active_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "c.onnx")
    if Session(path, "auto").provider != CPU:
        pytest.fail("this machine has a GPU: run the GPU benchmark, which checks the CUDA provider")
    with pytest.raises(ConfigurationError, match="not CUDA"):
        Session(path, "cuda:0")


def test_labels_come_best_first_and_equal_scores_in_their_order() -> None:
    scores = np.array([0.1, 0.4, 0.1, 0.2, 0.1, 0.1], dtype=np.float32)
    assert [name for name, _ in best_labels(scores, "abcdef")] == ["b", "d", "a", "c", "e"]


def test_labels_that_the_graph_selected_keep_their_order() -> None:
    scores, numbers = np.array([0.5, 0.3], dtype=np.float32), np.array([2, 0], dtype=np.int64)
    assert best_labels(scores, "abc", numbers) == (("c", pytest.approx(0.5)), ("a", pytest.approx(0.3)))


def test_all_likely_labels_are_kept_whatever_their_number() -> None:
    scores = np.array([0.6, 0.5, 0.9, 0.7, 0.49, 0.8, 0.55, 0.1], dtype=np.float32)
    assert [name for name, _ in best_labels(scores, "abcdefgh")] == ["c", "f", "d", "a", "g", "b"]
    order = np.argsort(-scores)
    assert [name for name, _ in best_labels(scores[order], "abcdefgh", order)] == ["c", "f", "d", "a", "g", "b"]


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_a_message_survives_a_round_trip(run: int, batch: int) -> None:
    message = BatchMessage(run, batch)
    assert BatchMessage.from_json(json.loads(json.dumps(message.to_json()))) == message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["layout", "run", "batch", "x"]), inner),
    )
)
def test_anything_else_in_a_message_is_refused_with_a_value_error(data: object) -> None:
    try:
        message = BatchMessage.from_json(data)
    except ValueError:
        return
    assert message.to_json() == data


def test_labels_are_in_one_spelling_whatever_graph_they_come_from() -> None:
    spec = replace(SPEC, labels=("cafe\u0301", " hat "), background=None, thresholds={"cafe\u0301": 0.5})
    assert (spec.labels, spec.thresholds) == (("caf\u00e9", "hat"), {"caf\u00e9": 0.5})
    assert BundleSpec.from_metadata(spec.to_metadata()) == spec
    with pytest.raises(BundleError, match="labels that look the same are the same"):
        replace(SPEC, labels=("cafe\u0301", "caf\u00e9"), background=None)
