"""Global pooling."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import FLOATS, fresh, ints, label, nodes, value_names

# Operators whose output is laid out as batch, channels, then space.
_SPATIAL = frozenset(
    "Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool InstanceNormalization LRN "
    "DepthToSpace SpaceToDepth Resize GridSample".split()
)
# Operators that keep the layout of their inputs.
_KEEPS_LAYOUT = frozenset(
    "Add Sub Mul Div Max Min Sum Neg Abs Sqrt Exp Erf Pow Relu LeakyRelu PRelu Elu Selu Celu Gelu Mish Sigmoid "
    "HardSigmoid HardSwish Softplus Tanh Clip Where Cast Identity Dropout BatchNormalization Pad Concat Slice "
    "QuantizeLinear DequantizeLinear".split()
)


class ReduceMeanToGlobalAveragePool(Pass):
    """Writes the mean over all of space as GlobalAveragePool.

    What:
        ReduceMean over exactly the spatial axes of a feature map (axes 2 and up of a value of rank 3 to 5) becomes a
        GlobalAveragePool of the same name, followed by a Flatten when the axes are dropped.
    Why:
        torch exports AdaptiveAvgPool and mean([2, 3]) as ReduceMean, which ONNX Runtime leaves in float; for
        GlobalAveragePool there are INT8 kernels on every runtime.
    When not:
        The axes are other ones or not constant. No spatial operator leads to the value: a mean over the features of
        [batch, time, features] has the same axes as one over the space of [batch, channels, space], and only the
        operators before it tell them apart.
    Cost:
        Linear in nodes, plus the walk back to the first spatial operator.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the means and notes those that are not over space."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            if node.op_type != "ReduceMean":
                continue
            reason = _unfit(node)
            if reason:
                self.notes.append(f"{label(node)} stays a ReduceMean: {reason}")
            else:
                _rewrite(node, taken)
                modified = True
        return ir.passes.PassResult(model, modified)


def _unfit(node: ir.Node) -> str | None:
    x = node.inputs[0]
    shape = dims(x) if x is not None else None
    if x is None or shape is None or not 3 <= len(shape) <= 5:
        return "its input is not known to have rank 3 to 5"
    if x.dtype not in FLOATS:
        return f"its type is {x.dtype}"
    axes = ints(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes")
    if axes is None or sorted(axis % len(shape) for axis in axes) != list(range(2, len(shape))):
        return "it is not over exactly the spatial axes"
    if not _is_spatial(x):
        return "no spatial operator leads to it"
    return None


def _is_spatial(value: ir.Value) -> bool:
    """Whether a spatial operator makes the value, with only operators between that keep the layout."""
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().producer()
        if node is None or node.domain != "":
            continue
        if node.op_type in _SPATIAL:
            return True
        if node.op_type in _KEEPS_LAYOUT:
            for source in node.inputs:
                if source is not None and source not in seen:
                    seen.add(source)
                    stack.append(source)
    return False


def _rewrite(node: ir.Node, taken: set[str]) -> None:
    graph, old, x = node.graph, node.outputs[0], node.inputs[0]
    assert graph is not None and x is not None and x.shape is not None
    keepdims = node.attributes.get_int("keepdims", 1)
    name = old.name if keepdims else fresh(f"{old.name}_pooled", taken)
    pooled = ir.Value(name=name, type=old.type, shape=ir.Shape([*x.shape[:2], *[1] * (len(x.shape) - 2)]))
    pool = ir.node(
        "GlobalAveragePool",
        [x],
        outputs=[pooled],
        name=node.name,
        doc_string=node.doc_string,
    )
    replacement = [pool]
    if not keepdims:
        flat = ir.Value(name=old.name, type=old.type, shape=old.shape)
        replacement.append(ir.node("Flatten", [pooled], {"axis": 1}, outputs=[flat], name=f"{label(node)}_flatten"))
    graph.insert_before(node, replacement)
    old.replace_all_uses_with(replacement[-1].outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
