"""From a run of `train svc` to the ONNX graph of a bundle: features, support vectors, scores.

The features are torch's, through its own exporter; the classifier is scikit-learn's, through skl2onnx, whose decision
values for each pair of labels differ from scikit-learn's by rounding alone; what turns them into scores is written out
here. ONNX Runtime's operator compares an image with one support vector after the other on the CPU, whichever provider
the session has, which is why the features are few. skl2onnx declares one value a label, which is wrong: the graph
declares no shape between its parts.
"""

import warnings

import numpy as np
import onnx
import torch
from onnx import compose, numpy_helper, parser
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from torch import Tensor, nn

from export.graph.torch_graph import OPSET, anonymous, export_module, pixels
from tagmill.bundles.spec import BundleSpec
from tagmill.tasks.base import SCORES, TOP_LABELS, TOP_SCORES
from training.models.svm import Extract, SupportVectors, opponents

#: version of the operators of classic machine learning
ML_OPSET = 1

#: from decision values of pairs of labels [N, pairs] to scores
HEAD = """
<ir_version: {ir}, opset_import: ["": {opset}]>
head (float[n, {pairs}] decisions) => ({outputs}) {{
    opposite = Neg (decisions)
    both = Concat <axis = 1> (decisions, opposite)
    margins = Gather <axis = 1> (both, opponents)
    logits = ReduceMin <keepdims = 0> (margins, last)
    scaled = Div (logits, temperature)
    scores = Softmax <axis = 1> (scaled){top}
}}
"""


class FeatureGraph(nn.Module):
    """From uint8 [N, H, W, 3] to features."""

    def __init__(self, extract: Extract) -> None:
        super().__init__()
        self.extract = extract

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.extract(pixels(images)),)


def build_svc_graph(network: SupportVectors, spec: BundleSpec, top_k: int = 0) -> onnx.ModelProto:
    """Return the graph with a free batch size; the same vectors give the same bytes."""
    example = torch.zeros(2, spec.preprocess.height, spec.preprocess.width, 3, dtype=torch.uint8)
    features = export_module(FeatureGraph(network.extract).eval(), example, ["features"]).model_proto
    classifier = _classifier(network, features.ir_version)
    head = _head(spec, top_k, features.ir_version)
    decided = compose.merge_models(features, classifier, [("features", "found")], outputs=["pairs"])
    return anonymous(compose.merge_models(decided, head, [("pairs", "decisions")]))


def _classifier(network: SupportVectors, ir_version: int) -> onnx.ModelProto:
    """Return what maps `found` float32 [N, components] to `pairs`, a decision value for each pair of labels."""
    svc = network.classifier()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # skl2onnx looks at probA_ and probB_
        model: onnx.ModelProto = to_onnx(
            svc,
            initial_types=[("found", FloatTensorType([None, network.vectors.shape[1]]))],
            options={id(svc): {"zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
    node = next(node for node in model.graph.node if node.op_type == "SVMClassifier")
    # Casts and, for two labels, a second column follow: the values of the operator itself are wanted.
    del model.graph.node[:], model.graph.output[:], model.graph.value_info[:]
    node.output[1] = "pairs"
    model.graph.node.append(node)
    model.graph.output.append(onnx.helper.make_tensor_value_info("pairs", onnx.TensorProto.FLOAT, ["n", None]))
    model.ir_version = ir_version
    return model


def _head(spec: BundleSpec, top_k: int, ir_version: int) -> onnx.ModelProto:
    labels = len(spec.labels)
    outputs = f"float[n, {labels}] {SCORES}"
    if top_k:
        outputs += f", float[n, {top_k}] {TOP_SCORES}, int64[n, {top_k}] {TOP_LABELS}"
    top = f"\n    {TOP_SCORES}, {TOP_LABELS} = TopK ({SCORES}, top_k)" if top_k else ""
    # Of two labels the operator gives two values: how far the second wins, and how far the first does.
    places, pairs = (opponents(labels), labels * (labels - 1) // 2) if labels > 2 else (np.array([[1], [0]]), 2)
    model = parser.parse_model(HEAD.format(ir=ir_version, opset=OPSET, pairs=pairs, outputs=outputs, top=top))
    values = {
        "opponents": places,
        "last": np.array([2]),
        "temperature": np.array(spec.temperature, dtype=np.float32),
        **({"top_k": np.array([top_k])} if top_k else {}),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return model
