"""Models that come quantized already: what their Q/DQ pairs say, and the float graph behind them.

A graph with QuantizeLinear / DequantizeLinear nodes speaks dsedge's own language, so it is taken as it is: its scales
were trained or calibrated elsewhere. The plan is read from it, not made, and the float graph that every claim is a
ratio to is the same graph without the pairs.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from dsedge.errors import LoadError
from dsedge.quant.contract import Contract
from dsedge.quant.interface import MOVES
from dsedge.quant.plan import NodePlan, QuantPlan

PAIR = ("QuantizeLinear", "DequantizeLinear")
REASON = "the model came with Q/DQ pairs around it"
_MOVED = MOVES | frozenset("Slice Split Gather DepthToSpace SpaceToDepth MaxPool GlobalMaxPool".split())
"""Operators that move or compare values: runtimes that take Q/DQ on inputs alone move quantizers over them."""
_NEVER_NEGATIVE = frozenset("Relu Clip Sigmoid HardSigmoid Softmax Abs Exp Softplus".split())


def is_qdq(model: ir.Model) -> bool:
    """Whether a graph holds quantizers as ONNX writes them."""
    return any(node.op_type in PAIR and not node.domain for node in model.graph)


def without_pairs(model: ir.Model) -> ir.Model:
    """The float graph behind a Q/DQ graph.

    Args:
        model: left as it is.

    Returns:
        A copy in which integer weights are float constants and every other pair is gone, also one that rounds float
        weights. Only rounding is taken out: where the codes begin at zero a Relu takes the place of the pair, because
        quantizers of other tools absorb the Relu that was there (saturation does the same). Conversions at integer
        inputs and outputs of the model stay.

    Raises:
        LoadError: DS109 when an operator works on codes between the two halves of a pair and float takes its place.
    """
    model = model.clone()
    graph = model.graph
    for node in list(graph):
        if node.op_type not in PAIR or node.domain:
            continue
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        if node.op_type == "DequantizeLinear" and _holds_codes(source):
            real = ir.tensor(dequantized(node), name=result.name)
            new = ir.val(result.name, const_value=real)
            result.name = None
            result.replace_all_uses_with(new)
            graph.register_initializer(new)
        elif node.op_type == "QuantizeLinear" and not result.is_graph_output() and _floor_is_zero(node):
            relu = ir.node("Relu", [source], name=f"{node.name}_saturation")
            relu.outputs[0].name, relu.outputs[0].type = f"{result.name}_saturated", source.type
            relu.outputs[0].shape = source.shape
            graph.insert_before(node, relu)
            result.replace_all_uses_with(relu.outputs[0])
        elif _at_the_border(node):
            continue
        else:
            result.replace_all_uses_with(source, replace_graph_outputs=True)
            if any(out is source for out in graph.outputs):
                source.name, result.name = result.name, None
        graph.remove(node, safe=True)
    _forget_types(graph)
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        graph.initializers.pop(name)
    return model


def dequantized(node: ir.Node) -> np.ndarray:
    """The real values that a DequantizeLinear makes of constants, in the type of its scale.

    Raises:
        LoadError: DS109 when its scale is not a constant.
    """
    arrays = [v.const_value.numpy() if v is not None and v.const_value is not None else None for v in node.inputs]
    codes, scale, zero_point = (*arrays, None)[:3]
    if codes is None or scale is None:
        raise LoadError("DS109", "a weight's scale is computed in the graph", where=node.name or "")
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)

    def spread(params: np.ndarray) -> np.ndarray:
        if block:
            return np.repeat(params, block, axis=axis)[tuple(slice(n) for n in codes.shape)]
        if params.ndim == 0 or params.size == 1:
            return params.reshape(())
        return params.reshape([-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)])

    offset = 0 if zero_point is None else spread(zero_point).astype(np.int32)
    real: np.ndarray = (codes.astype(np.int64) - offset).astype(scale.dtype) * spread(scale)
    return real


def read_plan(graph: ir.Graph, contract: Contract) -> QuantPlan:
    """The plan that a Q/DQ graph carries.

    Args:
        graph: normalized, sorted, every node named.
        contract: which activations the runtime fuses into the operator before them, and whether Q/DQ goes on inputs
            alone: such a runtime moves quantizers over what moves or compares values.

    Returns:
        A plan without values. INT8 is what reads all its activations and weights through DequantizeLinear, past what
        the runtime moves quantizers over, and what is fused into such a node; INT4 is what reads weights of 4 bits so,
        and its activations in float. Quantizers themselves are not listed.
    """
    nodes: dict[str, NodePlan] = {}
    for node in graph:
        if node.op_type in PAIR and not node.domain:
            continue
        plan = NodePlan(
            node.name or "", node.op_type, "float", "no Q/DQ pairs around it", result=node.outputs[0].name or ""
        )
        head = _head(node, nodes, contract)
        if head is not None:
            plan = NodePlan(plan.name, plan.op_type, "int8", f"fused into {head}", head=head, result=plan.result)
        elif _reads_codes(node, contract):
            plan = NodePlan(plan.name, plan.op_type, "int8", REASON, result=plan.result)
        elif _reads_blocks(node):
            plan = NodePlan(plan.name, plan.op_type, "int4", REASON, result=plan.result)
        elif all(out.dtype is not None and not out.dtype.is_floating_point() for out in node.outputs):
            plan = NodePlan(plan.name, plan.op_type, "integer", "works on codes, shapes or indices", result=plan.result)
        nodes[plan.name] = plan
    return QuantPlan(contract.id, nodes)


def _holds_codes(value: ir.Value) -> bool:
    """Whether a value is a constant of integers: a float one was the source of a quantizer that is gone."""
    return value.const_value is not None and value.const_value.dtype.is_integer()


def _reads_codes(node: ir.Node, contract: Contract) -> bool:
    passed = _MOVED if contract.inputs_only else frozenset()
    producers = [
        _maker(v, passed)
        for v in node.inputs
        if v is not None and v.const_value is None and v.dtype == ir.DataType.FLOAT
    ]
    return bool(producers) and all(p is not None and p.op_type == "DequantizeLinear" for p in producers)


def _maker(value: ir.Value, passed: Collection[str]) -> ir.Node | None:
    """The node that makes a value, past nodes of some types."""
    maker = value.producer()
    while maker is not None and maker.op_type in passed and not maker.domain and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer()
    return maker


def _head(node: ir.Node, nodes: dict[str, NodePlan], contract: Contract) -> str | None:
    value = node.inputs[0] if node.inputs else None
    producer = value.producer() if value is not None else None
    if producer is None or value is None or len(value.uses()) != 1 or producer.domain:
        return None
    before = nodes.get(producer.name or "")
    if before is None or before.precision != "int8" or node.op_type not in contract.fusions.get(producer.op_type, ()):
        return None
    return before.name


def _floor_is_zero(node: ir.Node) -> bool:
    """Whether no code stands for a negative number although the value before may be negative."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    if producer is None or producer.op_type in _NEVER_NEGATIVE:
        return False
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is None:
        return node.outputs[0].dtype == ir.DataType.UINT8  # the zero point is 0
    codes = zero_point.const_value.numpy() if zero_point.const_value is not None else np.zeros(0)
    return codes.dtype.kind in "iu" and codes.size > 0 and bool((codes == np.iinfo(codes.dtype).min).all())


def _at_the_border(node: ir.Node) -> bool:
    """Whether a conversion stands at an integer input or output of the model."""
    source = node.inputs[0]
    assert source is not None
    if node.op_type == "QuantizeLinear":
        return node.outputs[0].is_graph_output()
    return source.is_graph_input() and source.dtype != ir.DataType.FLOAT


def _forget_types(graph: ir.Graph) -> None:
    """Types between the halves of a pair were integers: shape inference finds the new ones."""
    for node in graph:
        for out in node.outputs:
            if not out.is_graph_output() and out.dtype in (ir.DataType.UINT8, ir.DataType.INT8):
                out.type = None


def _reads_blocks(node: ir.Node) -> bool:
    makers = [value.producer() for value in node.inputs if value is not None]
    codes = [maker.inputs[0] for maker in makers if maker is not None and maker.op_type == "DequantizeLinear"]
    return any(code is not None and code.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for code in codes)
