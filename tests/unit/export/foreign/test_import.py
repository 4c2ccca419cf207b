"""`tagmill model import`: graphs of other tools become bundles that answer as they do, or one line says why not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from export.cli.model import model as command
from export.foreign.bring import import_bundle
from export.foreign.choices import Options
from export.foreign.labels import read_labels
from tagmill.bundles.golden import GoldenSamples
from tagmill.bundles.metadata import GOLDEN, Precision
from tagmill.bundles.onnx_file import read_metadata
from tagmill.errors import BundleError, InputError
from tagmill.images.preprocess import Geometry
from tagmill.tasks.embed import EMBED
from tagmill.tasks.multilabel import MULTILABEL
from worker.inference.session import Session

torch.set_num_threads(1)

LABELS = ("red", "green", "blue")
SIZE = 16
NORMALIZED = ("--mean", "0", "--std", "1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with labels and pictures of three colors, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("\ufeffred\r\n\r\ngreen\r\nblue\r\n", encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    for number, color in enumerate([(200, 40, 30), (20, 180, 60), (30, 50, 220), (128, 120, 110)]):
        rng = np.random.default_rng(number)
        pixels = np.clip(rng.normal(color, 20, (40 + number, 60, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path


def write_graph(
    path: Path,
    layout: str = "nchw",
    kind: int = TensorProto.FLOAT,
    batch: int | str = "n",
    opset: int = 13,
    last: str = "",
    weight: float = 8.0,
    sides: tuple[int | str, int | str] = (SIZE, SIZE),
    metadata: dict[str, str] | None = None,
    rescales: bool = False,
    logits: str = "logits",
) -> Path:
    """Write a classifier whose logits are `weight` times the mean of each channel of its input."""
    channels = 1 if layout == "nchw" else 3
    shape = [batch, 3, *sides] if layout == "nchw" else [batch, *sides, 3]
    nodes, value = [], "pixels"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [value], ["float"], to=TensorProto.FLOAT))
        value = "float"
    if rescales:
        nodes.append(helper.make_node("Mul", [value, "share"], ["shares"]))
        value = "shares"
    axes = [axis for axis in (1, 2, 3) if axis != channels]
    nodes += [
        helper.make_node("ReduceMean", [value], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Reshape", ["mean", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], [logits if last else "scores"]),
    ]
    if last:
        nodes.append(helper.make_node(last, [logits], ["scores"], **({"axis": 1} if last == "Softmax" else {})))
    constants = {
        "flat": np.array([batch if isinstance(batch, int) else -1, 3], np.int64),
        "weights": np.eye(3, dtype=np.float32) * weight,
        "share": np.array(1 / 255, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(command, ["import", *words, "-o", "out.onnx"])


def imported(*words: str) -> tuple[Session, str]:
    """Import theirs.onnx with further options; return the session of the bundle, and what was said."""
    done = run("theirs.onnx", "--samples", "pictures", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return Session(Path("out.onnx"), "cpu", 1), done.output


def refused(*words: str) -> str:
    """Return the one line that says why theirs.onnx is not imported."""
    done = run("theirs.onnx", *words)
    assert isinstance(done.exception, InputError | BundleError), (done.output, done.exception)
    assert not Path("out.onnx").exists()
    line = str(done.exception)
    assert "\n" not in line
    return line


def plain(color: tuple[int, int, int], count: int = 1) -> NDArray[np.uint8]:
    return np.full((count, SIZE, SIZE, 3), color, np.uint8)


def softmax(values: list[float]) -> list[float]:
    powers = np.exp(np.array(values) - max(values))
    return (powers / powers.sum()).tolist()


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_graph_of_each_layout_answers_as_the_original(layout: str, opset: int) -> None:
    write_graph(Path("theirs.onnx"), layout, opset=opset)
    session, said = imported("--labels", "labels.txt", "--mean", "0.5,0.4,0.3", "--std", "0.5,0.25,0.2")
    expected = softmax([8 * (200 / 255 - 0.5) / 0.5, 8 * (100 / 255 - 0.4) / 0.25, 8 * (50 / 255 - 0.3) / 0.2])
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert "logits" in said
    assert session.spec.labels == LABELS
    assert session.golden_difference is not None
    crop = layout == "nchw"
    assert (session.spec.preprocess.geometry, session.spec.preprocess.crop) == (
        (Geometry.CENTER_CROP, 0.875) if crop else (Geometry.STRETCH, 1.0)
    )


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_other_inputs_than_float32_are_fed_what_they_take(kind: int) -> None:
    write_graph(Path("theirs.onnx"), kind=kind, weight=0.02 if kind == TensorProto.UINT8 else 5.0)
    words = () if kind == TensorProto.UINT8 else NORMALIZED
    session, _ = imported("--labels", "labels.txt", *words)
    share = 0.02 if kind == TensorProto.UINT8 else 5 / 255
    expected = softmax([200 * share, 100 * share, 50 * share])
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("last", "wanted"), [("Softmax", "classify"), ("Sigmoid", "multilabel")])
def test_scores_get_no_second_activation(last: str, wanted: str) -> None:
    write_graph(Path("theirs.onnx"), last=last, weight=2.0)
    task = ("--task", "multilabel") if wanted == "multilabel" else ()
    session, said = imported("--labels", "labels.txt", *NORMALIZED, *task)
    assert f"ends in {last}" in said
    assert session.spec.task.name == wanted
    values = [2 * level / 255 for level in (200, 100, 50)]
    expected = softmax(values) if last == "Softmax" else (1 / (1 + np.exp(-np.array(values)))).tolist()
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_sigmoid_makes_it_a_multilabel_model() -> None:
    write_graph(Path("theirs.onnx"))
    session, _ = imported("--labels", "labels.txt", *NORMALIZED, "--activation", "sigmoid")
    assert session.spec.task is MULTILABEL


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_becomes_a_free_one(batch: int) -> None:
    write_graph(Path("theirs.onnx"), batch=batch)
    session, said = imported("--labels", "labels.txt", *NORMALIZED)
    assert "takes any number now" in said
    assert session.fixed_batch == 0
    assert len(session.run(plain((1, 2, 3), 7)).scores) == 7


def test_what_ultralytics_writes_into_its_graphs_is_read() -> None:
    names = {0: "red", 1: "green", 2: "o'blue"}
    metadata = {"names": str(names), "imgsz": "[16, 16]", "task": "classify", "stride": "1"}
    write_graph(Path("theirs.onnx"), last="Softmax", sides=("height", "width"), metadata=metadata)
    session, _ = imported()
    assert session.spec.labels == ("red", "green", "o'blue")
    assert (session.spec.preprocess.height, session.spec.preprocess.geometry) == (16, Geometry.CENTER_CROP)
    write_graph(Path("theirs.onnx"), metadata=metadata | {"task": "detect"})
    Path("out.onnx").unlink()
    assert "is an Ultralytics model for detect" in refused()
    write_graph(Path("theirs.onnx"), metadata=metadata | {"names": "__import__('os').system('true')"})
    assert "give --labels FILE" in refused(*NORMALIZED)


def test_pixel_metadata_of_onnx_is_read() -> None:
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"}
    write_graph(Path("theirs.onnx"), metadata=metadata)
    session, _ = imported("--labels", "labels.txt")
    expected = softmax([8 * (level / 127.5 - 1) for level in (50, 100, 200)])  # blue first
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_graph_that_normalizes_itself_gets_levels_and_says_so() -> None:
    write_graph(Path("theirs.onnx"), "nhwc", rescales=True)
    session, said = imported("--labels", "labels.txt")
    assert "begins with Mul of a constant" in said
    expected = softmax([8 * level / 255 for level in (200, 100, 50)])
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_files_of_hugging_face_beside_the_graph_are_read() -> None:
    write_graph(Path("theirs.onnx"))
    Path("config.json").write_text(json.dumps({"id2label": {"1": "green", "0": "red", "2": "blue"}}))
    prepared = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "rescale_factor": 1 / 255,
        "do_center_crop": True,
        "size": {"shortest_edge": 20},
        "crop_size": {"height": 16, "width": 16},
    }
    Path("preprocessor_config.json").write_text(json.dumps(prepared))
    session, said = imported()
    assert "preprocessor_config.json and config.json beside the graph" in said
    assert session.spec.labels == LABELS
    assert session.spec.preprocess.crop == pytest.approx(0.8)
    expected = softmax([8 * (level / 255 - 0.5) / 0.25 for level in (200, 100, 50)])
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_weights_in_another_file_are_packed_in() -> None:
    model = onnx.load(write_graph(Path("theirs.onnx")))
    onnx.save(model, "theirs.onnx", save_as_external_data=True, location="theirs.data", size_threshold=0)
    imported("--labels", "labels.txt", *NORMALIZED)
    Path("out.onnx").unlink()
    Path("theirs.data").unlink()
    assert "theirs.data" in refused("--labels", "labels.txt")


def test_an_inner_value_becomes_the_embedding_and_the_golden_samples_hold_it() -> None:
    write_graph(Path("theirs.onnx"))
    session, _ = imported("--labels", "labels.txt", *NORMALIZED, "--embedding", "features")
    found = session.run(plain((200, 100, 50)))
    assert found.embedding is not None
    expected = np.array([200.0, 100.0, 50.0])
    assert found.embedding[0].tolist() == pytest.approx((expected / np.linalg.norm(expected)).tolist(), abs=1e-5)
    golden = GoldenSamples.from_text(read_metadata(Path("out.onnx"))[GOLDEN], session.spec)
    assert golden.embedding is not None


def test_an_image_tower_gives_an_embedding_alone() -> None:
    write_graph(Path("theirs.onnx"))
    session, _ = imported(*NORMALIZED, "--task", "embed", "--embedding", "scores")
    assert (session.spec.task, session.spec.labels, session.spec.embedding) == (EMBED, (), 3)
    assert session.run(plain((0, 0, 9))).embedding[0].tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def write_segmenter(path: Path, index: bool, layout: str = "nchw", pool: int = 2) -> Path:
    """Write a segmenter of black, red and green at half the size of its input: logits, or the index of the best."""
    planes = layout == "nchw"
    shape: list[Any] = ["n", 3, SIZE, SIZE] if planes else ["n", SIZE, SIZE, 3]
    nodes = [
        helper.make_node("Transpose" if not planes else "Identity", ["pixels"], ["planes"],
                         **({} if planes else {"perm": [0, 3, 1, 2]})),
        helper.make_node("AveragePool", ["planes"], ["small"], kernel_shape=[pool, pool], strides=[pool, pool]),
        helper.make_node("Conv", ["small", "weights", "bias"], ["logits"]),
        helper.make_node("Identity" if planes else "Transpose", ["logits"], ["scores"],
                         **({} if planes else {"perm": [0, 2, 3, 1]})),
        helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0),
    ]  # fmt: skip
    weights = np.array([[-9, -9, 0], [9, 0, 0], [0, 9, 0]], np.float32).reshape(3, 3, 1, 1)
    constants = {"weights": weights, "bias": np.array([2.7, -2.7, -2.7], np.float32)}
    side = SIZE // pool
    if index:
        output = helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", side, side])
    else:
        sides = ["n", 3, side, side] if planes else ["n", side, side, 3]
        output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, sides)
    graph = helper.make_graph(
        nodes[:3] + nodes[4:] if index else nodes[:4],
        "theirs",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [output],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8), path)
    Path("parts.txt").write_text("background\nred\ngreen\n")
    return path


SEGMENT_WORDS = ("--labels", "parts.txt", *NORMALIZED, "--resize", "stretch")


@pytest.mark.parametrize(
    ("layout", "index", "words", "lowest"),
    [
        ("nchw", False, (), 0.9),
        ("nhwc", False, (), 0.9),
        ("nchw", False, ("--activation", "sigmoid", "--task", "segment"), 0.9),
        ("nchw", True, (), 1.0),
    ],
)
def test_a_segmenter_gives_masks_at_the_size_of_its_input(
    layout: str, index: bool, words: tuple[str, ...], lowest: float
) -> None:
    write_segmenter(Path("theirs.onnx"), index, layout, pool=1 if index else 2)
    session, _ = imported(*SEGMENT_WORDS, *words)
    assert (session.spec.task.name, session.spec.background) == ("segment", "background")
    image = plain((0, 0, 0))
    image[0, :, :8] = (255, 0, 0)
    image[0, :, 8:] = (0, 255, 0)
    found = session.run(image)
    assert found.mask is not None
    assert found.mask[0, :, :7].tolist() == [[1] * 7] * SIZE
    assert found.mask[0, :, 9:].tolist() == [[2] * 7] * SIZE
    assert found.scores[0, 0] == 0
    assert found.scores[0, 1] >= lowest


def test_a_map_of_labels_must_have_the_pixels_of_the_input_and_labels_that_have_names() -> None:
    write_segmenter(Path("theirs.onnx"), index=True, pool=2)
    assert "has 8x8 labels for 16x16 pixels" in refused(*SEGMENT_WORDS)
    write_segmenter(Path("theirs.onnx"), index=True, pool=1)
    Path("parts.txt").write_text("background\nred\n")
    assert "--labels names 2, but the output labels gives pixels the labels" in refused(
        *SEGMENT_WORDS, "--samples", "pictures"
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_a_graph_with_all_sides_free_is_read_up_to_its_first_convolution(transposed: bool) -> None:
    # As Hugging Face's optimum exports it: the number of channels is free, too.
    weights = np.zeros((3, 3, 1, 1), np.float32)
    weights[[0, 1, 2], [0, 1, 2]] = 8.0
    nodes = [helper.make_node("Transpose", ["pixel_values"], ["planes"], perm=[0, 3, 1, 2])] if transposed else []
    nodes += [
        helper.make_node("Conv", ["planes" if transposed else "pixel_values", "weights"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", "a", "b", "c"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "theirs.onnx")
    Path("config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}))
    how = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": False, "do_flip_channel_order": True,
           "size": 20, "do_resize": True, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}}  # fmt: skip
    Path("preprocessor_config.json").write_text(json.dumps(how))
    session, _ = imported()
    assert session.spec.provenance["imported_as"]["layout"] == ("nhwc" if transposed else "nchw")
    assert session.spec.preprocess.to_dict() == {"height": 16, "width": 16, "geometry": "center_crop", "crop": 0.8}
    expected = softmax([8 * level / 255 for level in (50, 100, 200)])  # blue first, not normalized
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)
    Path("preprocessor_config.json").write_text('{"image_mean": ["a"], "image_std": [1]}')
    Path("out.onnx").unlink()
    assert "preprocessor_config.json: is not understood" in refused()


def test_a_config_of_timm_gives_size_crop_and_normalization() -> None:
    write_graph(Path("theirs.onnx"))
    config = {"mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 0.9, "input_size": [3, 16, 16]}
    Path("config.json").write_text(json.dumps({"label_names": list(LABELS), "pretrained_cfg": config}))
    session, _ = imported()
    assert session.spec.preprocess.crop == 0.9
    expected = softmax([8 * (level / 255 - 0.5) / 0.25 for level in (200, 100, 50)])
    assert session.run(plain((200, 100, 50))).scores[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_original_is_not_overwritten_and_a_bundle_is_not_imported_twice() -> None:
    write_graph(Path("theirs.onnx"))
    before = Path("theirs.onnx").read_bytes()
    done = CliRunner().invoke(command, ["import", "theirs.onnx", "--labels", "labels.txt", *NORMALIZED,
                                        "-o", "./theirs.onnx"])  # fmt: skip
    assert "is the graph itself" in str(done.exception)
    assert Path("theirs.onnx").read_bytes() == before
    imported("--labels", "labels.txt", *NORMALIZED)
    Path("out.onnx").rename("theirs.onnx")
    assert "is a bundle already; register it with `tagmill model add`" in refused("--labels", "labels.txt")


def test_options_that_would_change_nothing_are_refused() -> None:
    write_graph(Path("theirs.onnx"), kind=TensorProto.UINT8)
    assert "takes pixels of 0 to 255 as uint8" in refused("--labels", "labels.txt", *NORMALIZED)
    write_graph(Path("theirs.onnx"))
    words = ("--labels", "labels.txt", *NORMALIZED, "--crop", "0.9")
    assert "only --resize center-crop crops" in refused(*words, "--resize", "stretch")


def test_a_fixed_batch_that_cannot_be_freed_is_refused() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Reshape", ["pooled", "shape"], ["token"]),
            helper.make_node("Concat", ["first", "token"], ["tokens"], axis=1),  # of one image, as in a transformer
            helper.make_node("ReduceMax", ["tokens"], ["scores"], axes=[1], keepdims=0),
        ],
        "theirs",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(np.array([1, 1, 3]), "shape"),
            numpy_helper.from_array(np.full((1, 1, 3), -9, np.float32), "first"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "theirs.onnx")
    assert "was exported for 1 image at a time, and its layers allow no other" in refused(
        "--labels", "labels.txt", *NORMALIZED
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('["red", "green", "blue"]', LABELS),
        ('{"0": "red", "2": "blue", "1": "green"}', LABELS),
        ("red\r\n  green \n\nblue", LABELS),
        ('{"0": "red", "2": "blue"}', "its numbers are not 0 to 1"),
        ('{"red": 0}', "its keys are not the numbers of labels"),
        ('["red", 7]', "neither a list of labels nor an object"),
        ("\n", "is empty"),
        ("caf\u00e9\ncafe\u0301\n", "is there twice, as number 0 and 1"),
    ],
)
def test_labels_are_read_from_lines_and_json(content: str, found: tuple[str, ...] | str) -> None:
    Path("names").write_text(content, encoding="utf-8")
    if isinstance(found, tuple):
        assert read_labels(Path("names")) == found
    else:
        with pytest.raises(InputError, match=found):
            read_labels(Path("names"))


def test_stack_traces_of_the_export_are_not_in_the_bundle() -> None:
    model = onnx.load(write_graph(Path("theirs.onnx")))
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/someone/secret.py")
    model.graph.node[0].doc_string = "File /home/someone/secret.py"
    onnx.save(model, "theirs.onnx")
    imported("--labels", "labels.txt", *NORMALIZED)
    assert b"secret" not in Path("out.onnx").read_bytes()


def test_importing_needs_no_torch() -> None:
    code = "import sys, export.cli.model, export.foreign.bring; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], check=False).returncode == 0


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_networks_of_pytorch_libraries_are_imported(source: str, folder: Path) -> None:
    torch.manual_seed(0)
    if source == "timm":
        import timm

        network: nn.Module = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    else:
        from torchvision.models import squeezenet1_1

        network = squeezenet1_1(num_classes=3).eval()
    example = torch.rand(1, 3, 64, 64)
    torch.onnx.export(network, (example,), "theirs.onnx", dynamo=False, opset_version=14,
                      input_names=["input"], output_names=["logits"])  # fmt: skip
    session, said = imported("--labels", "labels.txt", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    assert "takes any number now" in said
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    levels = torch.from_numpy(image).permute(0, 3, 1, 2) / 255
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = network((levels - mean) / deviation).softmax(1).numpy()
    assert np.abs(session.run(image).scores - expected).max() < 1e-4


def test_a_classifier_of_scikit_learn_is_imported_with_its_own_operators() -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.random((60, 48)).astype(np.float32)
    fitted = LogisticRegression().fit(features, rng.integers(0, 3, 60))
    inner = to_onnx(fitted, features[:1], options={"zipmap": False}, target_opset={"": 15, "ai.onnx.ml": 3})
    flat = helper.make_node("Reshape", ["picture", "shape"], ["X"])
    inner.graph.node.insert(0, flat)
    inner.graph.initializer.append(numpy_helper.from_array(np.array([-1, 48], np.int64), "shape"))
    del inner.graph.input[:]
    inner.graph.input.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 4, 4, 3]))
    onnx.save(inner, "theirs.onnx")
    session, said = imported("--labels", "labels.txt", *NORMALIZED, "--output", "probabilities")
    assert "scores already" in said
    image = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    expected = fitted.predict_proba(image.reshape(5, 48).astype(np.float32) / 255)
    assert np.abs(session.run(image).scores - expected).max() < 1e-4


def test_half_precision_weights_are_named_in_the_bundle() -> None:
    model = onnx.load(write_graph(Path("theirs.onnx")))
    weights = next(entry for entry in model.graph.initializer if entry.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).astype(np.float16), "half"))
    model.graph.node.insert(0, helper.make_node("Cast", ["half"], ["weights"], to=TensorProto.FLOAT))
    onnx.save(model, "theirs.onnx")
    session, _ = imported("--labels", "labels.txt", *NORMALIZED)
    assert session.spec.precision is Precision.FP16


def test_an_imported_bundle_answers_alike_on_openvino() -> None:
    write_graph(Path("theirs.onnx"))
    session, _ = imported("--labels", "labels.txt", *NORMALIZED, "--embedding", "features")
    other = Session(Path("out.onnx"), "openvino", 1)
    image = plain((200, 100, 50), 3)
    assert np.abs(session.run(image).scores - other.run(image).scores).max() < 1e-4


@pytest.mark.parametrize(
    ("change", "words", "line"),
    [
        ({}, (), "give --labels FILE"),
        ({}, ("--labels", "labels.txt"), "does not say how pixels are normalized; give --mean 0.485"),
        ({}, ("--labels", "none.txt"), "none.txt: No such file"),
        ({"sides": (3, 3)}, ("--labels", "labels.txt", *NORMALIZED), "give --layout nchw or nhwc"),
        ({"sides": ("h", "w")}, ("--labels", "labels.txt", *NORMALIZED), "--input-size 224"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--input-size", "32"), "the graph takes 16x16 alone"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--output", "nose"), "--output nose: the graph has scores"),
        ({}, ("--labels", "two.txt", *NORMALIZED), "none of its outputs fits 2 labels"),
        ({}, ("--labels", "twice.txt", *NORMALIZED), "label 'red' is there twice, as number 0 and 1"),
        ({}, (*NORMALIZED, "--task", "embed"), "needs --embedding OUTPUT"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--task", "segment", "--output", "scores"), "is not of pixels"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--layout", "nhwc"), "has 16 channels in the layout nhwc"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--embedding", "nose"), "does not run it"),
        ({}, ("--labels", "labels.txt", "--mean", "0", "--std", "0"), "no number may be 0"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--samples", "nowhere"), "is not a folder"),
        ({"weight": float("nan")}, ("--labels", "labels.txt", *NORMALIZED), "no numbers"),
        ({}, ("--labels", "labels.txt", *NORMALIZED, "--activation", "none"), "not 0 to 1"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_option(
    change: dict[str, Any], words: tuple[str, ...], line: str
) -> None:
    Path("two.txt").write_text("red\ngreen\n")
    Path("twice.txt").write_text("red\nred\nblue\n")
    write_graph(Path("theirs.onnx"), **change)
    assert line in refused(*words)


def test_other_files_than_graphs_of_images_are_refused_by_name() -> None:
    Path("theirs.onnx").write_bytes(b"no graph")
    assert "is no ONNX graph that can be read" in refused("--labels", "labels.txt")
    Path("theirs.onnx").unlink()
    assert "no such file" in refused("--labels", "labels.txt")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["words"], ["scores"])],
        "text",
        [helper.make_tensor_value_info("words", TensorProto.INT64, ["n", 7])],
        [helper.make_tensor_value_info("scores", TensorProto.INT64, ["n", 7])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "theirs.onnx")
    assert "its input words is int64 [None, 7], not images" in refused("--labels", "labels.txt")


def test_drawn_pictures_prove_it_where_no_folder_is_named(folder: Path) -> None:
    done = import_bundle(
        write_graph(folder / "theirs.onnx"), folder / "out.onnx", Options(LABELS, mean=(0.0,), std=(1.0,))
    )
    assert done.pictures == 30
    assert done.difference < 1e-4
