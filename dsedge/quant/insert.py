"""Insert: plan -> Q/DQ graph.

The plan says which edges go through a quantizer; this writes it down in ONNX. Values of one tie group share one scale
and one zero-point initializer, so nothing that trains or edits the graph can drive them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsedge.errors import LoadError
from dsedge.passes.edit import PRECISION
from dsedge.quant.contract import Contract
from dsedge.quant.plan import NodePlan, QParams, QuantPlan
from dsedge.quant.qparams import quantize, quantize_bias

_BLOCKS_OPSET, _BLOCKS_IR_VERSION = 21, 10


def insert(model: ir.Model, plan: QuantPlan, contract: Contract) -> ir.Model:
    """Write a plan into a graph.

    Args:
        model: the normalized float model; left as it is.
        plan: with ranges assigned.
        contract: gives the number formats.

    Returns:
        A copy with QuantizeLinear / DequantizeLinear nodes. Weights are stored as integers, biases as int32 where the
        contract says so. Weights that are stored as float16 stand behind a Cast. What a node in bfloat16 reads goes
        through two, to bfloat16 and back, marked as such (`PRECISION`). INT4 weights need opset 21.

    Raises:
        LoadError: DS108 when there are INT4 weights and the model cannot be brought to that opset.
    """
    model = model.clone()
    if any(node.precision == "int4" for node in plan.nodes.values()):
        _raise_opset(model)
    writer = _Writer(model.graph, plan, contract)
    nodes = list(model.graph)
    for node in nodes:
        node_plan = plan.nodes[node.name or ""]
        if node_plan.precision != "float" and node_plan.head is None:
            writer.quantize_constants(node, node_plan)
    writer.quantize_activations(nodes)
    for node in nodes:
        precision = plan.nodes[node.name or ""].precision
        if precision == "int8_dynamic" or (precision == "float" and _between_pairs(node)):
            node.metadata_props[PRECISION] = precision
    for value in [v for v in model.graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
        if not value.is_graph_input():
            model.graph.initializers.pop(value.name or "")
    return model


class _Writer:
    """Writes quantizers into one graph, and shares what is shared."""

    def __init__(self, graph: ir.Graph, plan: QuantPlan, contract: Contract) -> None:
        self.graph, self.plan, self.contract = graph, plan, contract
        self.taken = {node.name for node in graph.all_nodes()} | set(graph.initializers)
        self.taken |= {v.name for node in graph.all_nodes() for v in (*node.inputs, *node.outputs) if v is not None}
        self.taken |= {v.name for v in graph.inputs}
        self.weights: dict[tuple[str, int | None, bytes], ir.Value] = {}
        self.rounded: dict[ir.Value, ir.Value] = {}
        self.groups: dict[str, tuple[ir.Value, ir.Value]] = {}

    def quantize_constants(self, node: ir.Node, plan: NodePlan) -> None:
        """Store the weights and the bias of a node as integers behind a DequantizeLinear; float16 behind a Cast.

        Of a node in bfloat16, activations and weights go through Casts.
        """
        if plan.precision == "bf16":
            for index, value in enumerate(node.inputs):
                if value is not None and is_rounded(value):
                    node.replace_input_with(index, self._rounded(node, value))
            return
        if plan.precision == "fp16":
            for index in plan.weights:
                node.replace_input_with(index, self._halved(node, index))
            return
        for index in plan.weights:
            value, params = node.inputs[index], plan.weight_qparams[index]
            assert value is not None
            key = (value.name or "", params.axis, params.scale.tobytes())
            if key not in self.weights:
                format = self.contract.weight if params.block is None else self.contract.block
                assert format is not None
                codes = quantize(_array(value), params, format)
                self.weights[key] = self._stored(f"{value.name}_{params.dtype}", codes, params, before=node)
            node.replace_input_with(index, self.weights[key])
        if plan.bias is None or self.contract.bias != "int32":
            return
        bias, source = node.inputs[plan.bias], self.plan.values[plan.reads[0]].qparams
        assert bias is not None and source is not None, "ranges are assigned before insert"
        q, scale = quantize_bias(_array(bias), float(source.scale), plan.weight_qparams[plan.weights[0]].scale)
        params = QParams(scale, np.zeros(scale.shape, np.int32), "int32", 0 if scale.ndim else None)
        node.replace_input_with(plan.bias, self._stored(f"{bias.name}_int32", q, params, before=node))

    def quantize_activations(self, nodes: list[ir.Node]) -> None:
        """Put a Q/DQ pair on every value of the plan, and route the quantized edges through it."""
        written, reads = routes(nodes, self.plan)
        values = {v.name: v for node in nodes for v in (*node.inputs, *node.outputs) if v is not None}
        for name in self.plan.values:
            self._quantize_value(values[name], name in written, reads.get(name, []))

    def _quantize_value(self, value: ir.Value, written: bool, reads: list[tuple[ir.Node, int]]) -> None:
        name = value.name or ""
        plan = self.plan.values[name]
        assert plan.qparams is not None, "ranges are assigned before insert"
        if plan.group not in self.groups:
            self.groups[plan.group] = self._parameters(plan.group, plan.qparams)
        scale, zero_point = self.groups[plan.group]
        if value.const_value is not None:
            codes = self._initializer(
                f"{name}_{plan.qparams.dtype}", quantize(_array(value), plan.qparams, self.contract.activation)
            )
            first = min((node for node, _ in reads), key=self.graph.index)
            dequantized = self._dequantize(name, [codes, scale, zero_point], None, value.shape)
            self.graph.insert_before(first, dequantized)
            for node, i in reads:
                node.replace_input_with(i, dequantized.outputs[0])
            return
        uses = [(use.node, use.idx) for use in value.uses()]
        q = ir.node("QuantizeLinear", [value, scale, zero_point], name=self._free(f"{name}_QuantizeLinear"))
        codes = q.outputs[0]
        codes.name, codes.shape = self._free(f"{name}_quantized"), value.shape
        codes.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(plan.qparams.dtype)))
        dq = self._dequantize(name, [codes, scale, zero_point], None, value.shape)
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, [q, dq])
        else:
            self.graph.insert_before(self.graph[0], [q, dq])
        for node, i in uses if written else reads:
            node.replace_input_with(i, dq.outputs[0])
        if written and value.is_graph_output():
            self._take_over_output(value, dq.outputs[0])

    def _take_over_output(self, value: ir.Value, output: ir.Value) -> None:
        """Make `output` the graph output that `value` was, under its name."""
        name = value.name
        for i, out in enumerate(self.graph.outputs):
            if out is value:
                self.graph.outputs[i] = output
        value.name = self._free(f"{name}_float")
        output.name = name
        output.type, output.shape = value.type, value.shape

    def _stored(self, name: str, codes: np.ndarray, params: QParams, *, before: ir.Node) -> ir.Value:
        """Integers behind a DequantizeLinear; returns its output."""
        inputs = [self._initializer(name, codes), *self._parameters(name, params)]
        dq = self._dequantize(name, inputs, params.axis, ir.Shape(codes.shape))
        if params.block is not None:
            dq.attributes["block_size"] = ir.AttrInt64("block_size", params.block)
        self.graph.insert_before(before, dq)
        return dq.outputs[0]

    def _halved(self, node: ir.Node, index: int) -> ir.Value:
        """A constant as float16 behind a Cast to float32; returns the Cast's output."""
        value = node.inputs[index]
        assert value is not None
        key = (value.name or "", None, b"fp16")
        if key not in self.weights:
            half = self._initializer(f"{value.name}_fp16", _array(value).astype(np.float16))
            cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, name=self._free(f"{value.name}_Cast"))
            output = cast.outputs[0]
            output.name, output.type, output.shape = self._free(f"{value.name}_float"), value.type, value.shape
            self.graph.insert_before(node, cast)
            self.weights[key] = output
        return self.weights[key]

    def _rounded(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """A value rounded to bfloat16 by a Cast there and one back, of which the second's output is returned."""
        if value not in self.rounded:
            types = (ir.DataType.BFLOAT16, ir.DataType.FLOAT)
            rounded = value
            for dtype in types:
                cast = ir.node("Cast", [rounded], {"to": dtype}, name=self._free(f"{value.name}_to_{dtype.name}"))
                cast.metadata_props[PRECISION] = "bf16"
                rounded = cast.outputs[0]
                rounded.name, rounded.type, rounded.shape = (
                    self._free(f"{value.name}_as_{dtype.name}"),
                    ir.TensorType(dtype),
                    value.shape,
                )
                self.graph.insert_before(node, cast)
            self.rounded[value] = rounded
        return self.rounded[value]

    def _parameters(self, name: str, params: QParams) -> tuple[ir.Value, ir.Value]:
        scale = self._initializer(f"{name}_scale", params.scale)
        return scale, self._initializer(f"{name}_zero_point", params.zero_point)

    def _dequantize(self, name: str, inputs: list[ir.Value], axis: int | None, shape: ir.Shape | None) -> ir.Node:
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node("DequantizeLinear", inputs, attributes, name=self._free(f"{name}_DequantizeLinear"))
        output = node.outputs[0]
        output.name, output.type, output.shape = (
            self._free(f"{name}_dequantized"),
            ir.TensorType(ir.DataType.FLOAT),
            shape,
        )
        return node

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        name = self._free(name)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _free(self, name: str) -> str:
        """The name, or one like it that nothing in the graph has; it is taken from now on."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


def routes(nodes: Sequence[ir.Node], plan: QuantPlan) -> tuple[set[str], dict[str, list[tuple[ir.Node, int]]]]:
    """The values that INT8 nodes write, which all readers get through a quantizer, and the inputs that they read so."""
    by_name = {node.name: node for node in nodes}
    last = {p.head: by_name[p.name] for p in plan.nodes.values() if p.head is not None}
    written: set[str] = set()
    reads: dict[str, list[tuple[ir.Node, int]]] = {}
    for own in plan.nodes.values():
        if own.precision != "int8" or own.head is not None:
            continue
        node = by_name[own.name]
        for i, name in zip(own.inputs, own.reads, strict=True):
            reads.setdefault(name, []).append((node, i))
        if own.output:
            written |= {out.name or "" for out in last.get(own.name, node).outputs}
    return written, reads


def _raise_opset(model: ir.Model) -> None:
    """To opset 21, the first whose DequantizeLinear knows blocks: but for one operator it only adds types to 20."""
    opset = model.opset_imports.get("", _BLOCKS_OPSET)
    if opset < _BLOCKS_OPSET and any(node.op_type == "GroupNormalization" for node in model.graph.all_nodes()):
        what = f"INT4 weights need opset {_BLOCKS_OPSET}, in which GroupNormalization is another operator"
        raise LoadError("DS108", what, hint=f"export the model with opset {_BLOCKS_OPSET}, or ask for less")
    model.opset_imports[""] = max(opset, _BLOCKS_OPSET)
    model.ir_version = max(model.ir_version, _BLOCKS_IR_VERSION)


def is_rounded(value: ir.Value) -> bool:
    """Whether bfloat16 rounds a value: biases and bounds have fewer than two axes, and so has what becomes a shape."""
    tensor = isinstance(value.type, ir.TensorType) and value.dtype == ir.DataType.FLOAT
    return tensor and (value.shape is None or len(value.shape) > 1)


def _between_pairs(node: ir.Node) -> bool:
    """Whether all that a node reads is dequantized, and all that it writes quantized: as if it were to be INT8."""
    sources = [value.producer() for value in node.inputs if value is not None and value.const_value is None]
    users = [user for out in node.outputs for user in out.consumers()]
    return all(s is not None and s.op_type == "DequantizeLinear" for s in sources) and all(
        user.op_type == "QuantizeLinear" for user in users
    )


def _array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()
