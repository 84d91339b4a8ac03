"""Insert: plan -> Q/DQ graph.

The plan says which edges go through a quantizer; this writes it down in ONNX. Values of one tie group share one scale
and one zero-point initializer, so nothing that trains or edits the graph can drive them apart.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.quant.contract import Contract
from dsedge.quant.plan import NodePlan, QParams, QuantPlan
from dsedge.quant.qparams import quantize, quantize_bias, weight_qparams


def insert(model: ir.Model, plan: QuantPlan, contract: Contract) -> ir.Model:
    """Write a plan into a graph.

    Args:
        model: the normalized float model; left as it is.
        plan: with ranges assigned.
        contract: gives the number formats.

    Returns:
        A copy with QuantizeLinear / DequantizeLinear nodes. Weights are stored as integers, biases as int32 where the
        contract says so.
    """
    model = model.clone()
    writer = _Writer(model.graph, plan, contract)
    nodes = list(model.graph)
    for node in nodes:
        node_plan = plan.nodes[node.name or ""]
        if node_plan.precision != "float" and node_plan.head is None:
            writer.quantize_constants(node, node_plan)
    writer.quantize_activations(nodes)
    for value in [v for v in model.graph.initializers.values() if not v.uses() and not v.is_graph_output()]:
        if not value.is_graph_input():
            model.graph.initializers.pop(value.name or "")
    return model


class _Writer:
    """Writes quantizers into one graph, and shares what is shared."""

    def __init__(self, graph: ir.Graph, plan: QuantPlan, contract: Contract) -> None:
        self.graph, self.plan, self.contract = graph, plan, contract
        self.constants: dict[tuple[str, int | None, float | None], ir.Value] = {}

    def quantize_constants(self, node: ir.Node, plan: NodePlan) -> None:
        """Store the weights and the bias of a node as integers behind a DequantizeLinear."""
        bias_value = node.inputs[plan.bias] if plan.bias is not None else None
        bias = _array(bias_value) if bias_value is not None and self.contract.bias == "int32" else None
        input_scale = None
        if bias is not None:
            source = node.inputs[plan.inputs[0]]
            qparams = self.plan.values[(source.name if source is not None else None) or ""].qparams
            assert qparams is not None, "ranges are assigned before insert"
            input_scale = float(qparams.scale)
        for index in plan.weights:
            value = node.inputs[index]
            assert value is not None
            weight = _array(value)
            params = weight_qparams(weight, plan.axis, self.contract.weight, bias=bias, input_scale=input_scale)
            node.replace_input_with(index, self._weight(value, weight, params, node, input_scale))
            if bias is not None and bias_value is not None and input_scale is not None and plan.bias is not None:
                q, scale = quantize_bias(bias, input_scale, params.scale)
                axis = 0 if scale.ndim else None
                bias_params = QParams(scale, np.zeros(scale.shape, np.int32), "int32", axis)
                name = self._free(f"{bias_value.name}_int32")
                node.replace_input_with(plan.bias, self._dequantized(name, q, bias_params, before=node))

    def _weight(
        self, value: ir.Value, weight: np.ndarray, params: QParams, node: ir.Node, input_scale: float | None
    ) -> ir.Value:
        key = (value.name or "", params.axis, input_scale)
        if key not in self.constants:
            name = self._free(f"{value.name}_{params.dtype}")
            codes = quantize(weight, params, self.contract.weight)
            self.constants[key] = self._dequantized(name, codes, params, before=node)
        return self.constants[key]

    def _dequantized(self, name: str, codes: np.ndarray, params: QParams, *, before: ir.Node) -> ir.Value:
        attributes = {} if params.axis is None else {"axis": params.axis}
        inputs = [
            self._initializer(name, codes),
            self._initializer(f"{name}_scale", params.scale),
            self._initializer(f"{name}_zero_point", params.zero_point),
        ]
        node = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}_DequantizeLinear")
        self.graph.insert_before(before, node)
        return self._named(node, f"{name}_dequantized", ir.DataType.FLOAT, ir.Shape(codes.shape))

    def quantize_activations(self, nodes: list[ir.Node]) -> None:
        """Put a Q/DQ pair on every value of the plan, and route the quantized edges through it."""
        by_name = {node.name: node for node in nodes}
        last = {p.head: by_name[p.name] for p in self.plan.nodes.values() if p.head is not None}
        written: set[str] = set()
        reads: dict[str, list[tuple[ir.Node, int]]] = {}
        for plan in self.plan.nodes.values():
            if plan.precision != "int8" or plan.head is not None:
                continue
            node = by_name[plan.name]
            for i in plan.inputs:
                value = node.inputs[i]
                reads.setdefault((value.name if value is not None else None) or "", []).append((node, i))
            if plan.output:
                written |= {out.name or "" for out in last.get(plan.name, node).outputs}
        values = {v.name: v for node in nodes for v in (*node.inputs, *node.outputs) if v is not None}
        for name in self.plan.values:
            self._quantize_value(values[name], name in written, reads.get(name, []))

    def _quantize_value(self, value: ir.Value, written: bool, reads: list[tuple[ir.Node, int]]) -> None:
        plan = self.plan.values[value.name or ""]
        assert plan.qparams is not None, "ranges are assigned before insert"
        if value.const_value is not None:
            name = self._free(f"{value.name}_{plan.qparams.dtype}")
            codes = quantize(_array(value), plan.qparams, self.contract.activation)
            first = min((node for node, _ in reads), key=lambda n: self.graph.index(n))
            dequantized = self._dequantized(name, codes, plan.qparams, before=first)
            for node, i in reads:
                node.replace_input_with(i, dequantized)
            return
        name = value.name or ""
        uses = list(value.uses())
        scale = self._shared(f"{plan.group}_scale", plan.qparams.scale)
        zero_point = self._shared(f"{plan.group}_zero_point", plan.qparams.zero_point)
        q = ir.node("QuantizeLinear", [value, scale, zero_point], name=f"{name}_QuantizeLinear")
        dq = ir.node("DequantizeLinear", [q.outputs[0], scale, zero_point], name=f"{name}_DequantizeLinear")
        codes_type = ir.DataType.from_numpy(np.dtype(plan.qparams.dtype))
        self._named(q, f"{name}_quantized", codes_type, value.shape)
        output = self._named(dq, f"{name}_dequantized", ir.DataType.FLOAT, value.shape)
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, [q, dq])
        else:
            self.graph.insert_before(self.graph[0], [q, dq])
        for node, i in [(u.node, u.idx) for u in uses] if written else reads:
            node.replace_input_with(i, output)
        if written and value.is_graph_output():
            self._take_over_output(value, output)

    def _take_over_output(self, value: ir.Value, output: ir.Value) -> None:
        """Make `output` the graph output that `value` was, under its name."""
        name = value.name
        for i, out in enumerate(self.graph.outputs):
            if out is value:
                self.graph.outputs[i] = output
        value.name = f"{name}_float"
        output.name = name
        output.type, output.shape = value.type, value.shape

    def _shared(self, name: str, array: np.ndarray) -> ir.Value:
        return self.graph.initializers.get(name) or self._initializer(name, array)

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _free(self, name: str) -> str:
        """A name that no initializer has."""
        while name in self.graph.initializers:
            name += "_"
        return name

    @staticmethod
    def _named(node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        value = node.outputs[0]
        value.name, value.type, value.shape = name, ir.TensorType(dtype), shape
        return value


def _array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()
