"""The normalized graph: what every later step of the flow is written for."""

from __future__ import annotations

from copy import deepcopy

import onnx_ir as ir

from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.base import PassRecord, run

NORMALIZE = (
    "sort",
    "initializers-from-inputs",
    "inline-functions",
    "lift-constants",
    "infer-shapes",  # with the rank known, Softmax before opset 13 is upgraded without nodes around it
    "upgrade-opset",
    "lift-constants",  # those that the upgrade made of attributes
    "infer-shapes",
    "widen-half",
    "fold-constants",
    "inline-branches",
    "fold-constants",  # what depends on the rank behind them
    "static-reshape",
    "eliminate-identity",
    "cancel-transposes",
    "drop-zero-states",
    "sum-to-add",
    "min-max-to-clip",
    "clip-to-hard-swish",
    "erf-to-gelu",
    "tanh-to-gelu",
    "decomposed-sigmoid",
    "decomposed-mish",
    "decomposed-softmax",
    "decomposed-layer-normalization",
    "decomposed-instance-normalization",
    "matmul-add-to-gemm",
    "keep-matrices",
    "fold-pad",
    "fold-affine",
    "fold-batchnorm",
    "fold-input-affine",  # what no operator before it took
    "reduce-mean-to-global-average-pool",
    "average-pool-to-global",
    "eliminate-identity",  # reshapes that those before left in a row
)
"""The built-in passes in order; passes of other packages of the stage "normalize" follow them."""

FINISH = ("clean-up", "infer-shapes")
"""What runs after all of them, so that names are unique and shapes are known whatever they did."""


def normalize(model: Model) -> tuple[Model, list[PassRecord]]:
    """Brings a model to canonical operators, names and shapes.

    Constants and BatchNormalization are folded, shapes inferred, the opset upgraded and exporters' idioms rewritten.
    The model that is passed in is not changed; weights that no pass rewrites are shared with it, not copied.

    Args:
        model: a model as it was loaded.

    Returns:
        The same model with the normalized graph, and a record of each pass in the order they ran.

    Raises:
        PassError: DS301, a pass failed, or a pass of another package cannot be used.
        LoadError: DS108, the opset cannot be upgraded.
    """
    passes = discover()
    known = {*NORMALIZE, *FINISH}
    others = [name for name, kind in passes.items() if kind.stage == "normalize" and name not in known]
    graph = clone(model.graph)
    records = run((passes[name] for name in (*NORMALIZE, *others, *FINISH)), graph)
    return model.with_graph(graph), records


def clone(graph: ir.Model) -> ir.Model:
    """A copy of a graph that shares its weights."""
    try:
        copied = graph.clone()
    except (ValueError, RuntimeError):
        # clone() needs sorted nodes; through the file format the order does not matter, but weights are copied.
        return ir.from_proto(ir.to_proto(graph))
    for part in copied.graphs():
        for value in (*part.inputs, *part.initializers.values(), *(v for node in part for v in node.outputs)):
            value.type = deepcopy(value.type)  # clone() shares the types, and a type can be changed in place
    return copied
