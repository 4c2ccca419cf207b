"""From a run of `train svc` to the ONNX graph of a bundle: features, support vectors, scores.

The features are exported by torch; the classifier is one SVMClassifier node, built from the stored support vectors; a
small graph turns its decision values into scores. ONNX Runtime compares an image with one support vector after the
other, on the CPU whichever provider the session has: keep the features few.
https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper, parser
from torch import Tensor, nn

from export.graph.torch_graph import OPSET, anonymous, export_module, pixels
from tagmill.bundles.metadata import BundleSpec
from tagmill.tasks.base import SCORES, TOP_LABELS, TOP_SCORES
from training.models.svm import Extract, SupportVectors, opponents

#: version of the operator set ai.onnx.ml
ML_OPSET = 1

#: from the decision values of the pairs of labels [N, pairs] to scores
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
    """From uint8 [N, H, W, 3] to the features of the classifier."""

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
    decided = compose.merge_models(features, classifier, [("features", "components")], outputs=["pairs"])
    return anonymous(compose.merge_models(decided, head, [("pairs", "decisions")]))


def _classifier(network: SupportVectors, ir_version: int) -> onnx.ModelProto:
    """Return what maps `components` float32 [N, components] to `pairs`, the decision value of each pair of labels."""
    float32, sign = np.float32, network.sign
    node = helper.make_node(
        "SVMClassifier",
        ["components"],
        ["label", "pairs"],
        name="SVMc",  # as in earlier exports, so that the bytes of a bundle stay the same
        domain="ai.onnx.ml",
        classlabels_ints=list(range(len(network.counts))),
        coefficients=(sign * network.coefficients.numpy()).astype(float32).ravel(),
        kernel_params=[network.gamma, 0.0, 3.0],  # gamma; coef0 and degree are of other kernels
        kernel_type="RBF",
        post_transform="NONE",
        rho=(sign * network.intercepts.numpy()).astype(float32),
        support_vectors=network.vectors.numpy().ravel(),
        vectors_per_class=network.counts.numpy(),
    )
    components = helper.make_tensor_value_info("components", TensorProto.FLOAT, ["n", network.vectors.shape[1]])
    pairs = helper.make_tensor_value_info("pairs", TensorProto.FLOAT, ["n", None])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    graph = helper.make_graph([node], "classifier", [components], [pairs])
    return helper.make_model(graph, ir_version=ir_version, opset_imports=opsets)


def _head(spec: BundleSpec, top_k: int, ir_version: int) -> onnx.ModelProto:
    labels = len(spec.labels)
    outputs = f"float[n, {labels}] {SCORES}"
    if top_k:
        outputs += f", float[n, {top_k}] {TOP_SCORES}, int64[n, {top_k}] {TOP_LABELS}"
    top = f"\n    {TOP_SCORES}, {TOP_LABELS} = TopK ({SCORES}, top_k)" if top_k else ""
    # For two labels the operator returns two values: the margin of the second label and that of the first.
    columns, pairs = (opponents(labels), labels * (labels - 1) // 2) if labels > 2 else (np.array([[1], [0]]), 2)
    model = parser.parse_model(HEAD.format(ir=ir_version, opset=OPSET, pairs=pairs, outputs=outputs, top=top))
    values = {
        "opponents": columns,
        "last": np.array([2]),
        "temperature": np.array(spec.temperature, dtype=np.float32),
        **({"top_k": np.array([top_k])} if top_k else {}),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return model
