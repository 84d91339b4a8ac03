"""bfloat16: recorded in the artifact, which otherwise computes in float32.

The plugin computes all that is float in the precision that it is told when it compiles. In the Q/DQ graph each node's
rounding stands as Casts, so that the reference rounds too; here they make way for one word in the file, which
`compile_openvino` reads.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from dsedge.bench.runner import OPENVINO_PRECISION
from dsedge.passes.edit import PRECISION


def without_roundings(model: ir.Model) -> ir.Model:
    """The model without the Casts that stand for bfloat16; the model itself when it has none."""
    if not any(map(_rounds, model.graph)):
        return model
    model = model.clone()
    for node in list(model.graph):
        if _rounds(node) and node.inputs[0] is not None:
            node.outputs[0].replace_all_uses_with(node.inputs[0])
            model.graph.remove(node, safe=True)
    return model


def record(model: Any) -> None:
    """Have an `openvino.Model` compute in bfloat16 wherever `compile_openvino` opens it."""
    model.set_rt_info("bf16", OPENVINO_PRECISION)


def _rounds(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.metadata_props.get(PRECISION) == "bf16"
