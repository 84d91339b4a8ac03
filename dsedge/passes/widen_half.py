"""Half precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import fresh, nodes, value_names

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


class WidenHalf(Pass):
    """Widens float16 and bfloat16 to float32.

    What:
        Weights, values and the types that nodes name become float32. Inputs and outputs of the model keep their types,
        by a Cast behind each input and in front of each output.
    Why:
        Contracts quantize float32, and kernels for half precision on a CPU are few and slow. Which float type the rest
        of a quantized model runs in is for the backend to choose.
    When not:
        There is no half precision inside. Where a value overflowed float16 to infinity, the number itself stays.
    Cost:
        Twice the memory of the weights. Results are more exact than those of the file, by about 1e-3 of their size.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Widens what is inside, and notes how much that was."""
        taken = value_names(model)
        border = [v for v in dict.fromkeys([*model.graph.inputs, *model.graph.outputs]) if v.dtype in _HALF]
        modified = False
        for value in border:
            modified |= (
                _cast_input(value, model.graph, taken) if value.producer() is None else _cast_output(value, taken)
            )
        kept = {v for v in (*model.graph.inputs, *model.graph.outputs) if v.dtype in _HALF}
        for node in nodes(model):
            if not kept.intersection(node.outputs):
                _widen_attributes(node)
        values = [v for v in dict.fromkeys(_values(model)) if v.dtype in _HALF and v not in kept]
        for value in values:
            _widen(value)
        if values:
            weights = sum(value.const_value is not None for value in values)
            self.notes.append(f"{weights} weights and {len(values) - weights} values were half precision")
        return ir.passes.PassResult(model, modified or bool(values))


def _cast_input(value: ir.Value, graph: ir.Graph, taken: set[str]) -> bool:
    """Lets those that read an input, or a constant that is an output, read a float32 of it."""
    uses = [use for use in value.uses() if use.node.op_type != "Cast"]
    if not uses:
        return False
    name = fresh(f"{value.name}_float32", taken)
    wide = ir.Value(name=name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, outputs=[wide], name=name)
    graph.insert_before(graph[0], cast)
    for node, index in uses:
        node.replace_input_with(index, wide)
    return True


def _cast_output(value: ir.Value, taken: set[str]) -> bool:
    """Puts a Cast before an output; those inside that read the value read it as it was before the Cast."""
    maker = value.producer()
    assert maker is not None and maker.graph is not None and value.dtype is not None
    uses = list(value.uses())
    source = maker.inputs[0] if maker.op_type == "Cast" and maker.domain == "" else None
    if source is not None and source.dtype not in _HALF:
        for node, index in uses:
            node.replace_input_with(index, source)
        return bool(uses)
    name, graph = value.name, maker.graph
    value.name = fresh(f"{name}_float32", taken)
    narrow = ir.Value(name=name, shape=value.shape, type=ir.TensorType(value.dtype))
    cast = ir.node("Cast", [value], {"to": int(value.dtype)}, outputs=[narrow], name=value.name)
    graph.insert_after(maker, cast)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = narrow
    return True


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from (*graph.inputs, *graph.initializers.values())
        for node in graph:
            yield from node.outputs


def _widen(value: ir.Value) -> None:
    if value.const_value is not None:
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
    value.dtype = ir.DataType.FLOAT


def _widen_attributes(node: ir.Node) -> None:
    for attribute in list(node.attributes.values()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _HALF:
            wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
            node.attributes.add(ir.AttrTensor(attribute.name, wide))
        elif attribute.name in _TYPE_ATTRIBUTES and attribute.value in _HALF:
            node.attributes.add(ir.AttrInt64(attribute.name, int(ir.DataType.FLOAT)))
