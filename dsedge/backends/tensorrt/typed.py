"""Strongly typed graphs: float16 or bfloat16 tensors wherever that holds the numbers, float32 where it does not.

TensorRT 11 takes every precision from the graph, and 10 does so when asked. So this decides for each node which float
type it computes in, and puts Casts between the two. Inputs and outputs of the graph stay float32: then one set of
samples serves every graph of a bundle, and the compiler takes the Casts into the kernels that read and write them.

float32 remains

- where a sum of many terms, a square or a variance is formed (`_SUMS`): it can exceed what its result fits into;
- where the range of an activation comes near the greatest float16, 65504, or a constant exceeds it, or one that is not
  zero (an epsilon) would become zero;
- where a scale of activations is so small that float16 rounds it coarsely (weights are counted anew, `scales.py`);
- where an operator takes or makes no float16, by ONNX's own specification, and in bodies of control flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from dsedge.backends.tensorrt.scales import LEAST_SCALE, half_scale, recoded
from dsedge.passes.edit import fresh, is_constant, value_names

HALF, BFLOAT = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
OPSETS = {HALF: (19, 9), BFLOAT: (22, 10)}
"""Opset and version of the file format from which quantizers, and for bfloat16 convolutions, have the type."""

GREATEST = float(np.finfo(np.float16).max)
_GREATEST_BFLOAT = float(np.uint32(0x7F7F0000).view(np.float32))
HEADROOM = 2.0
"""Between the greatest value that calibration saw, and the greatest that float16 holds."""

_SUMS = frozenset(
    "LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LpNormalization LRN CumSum "
    "ReduceSum ReduceSumSquare ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceProd".split()
)
_SAY_THEIR_TYPE = frozenset(
    "Constant RandomNormal RandomUniform RandomNormalLike RandomUniformLike EyeLike Bernoulli Multinomial".split()
)
_SYMMETRIC = (ir.DataType.INT8, ir.DataType.INT4)
_CUT = frozenset("Add Sub Where Clip Max Min Pad".split())
"""A constant beyond the range of float16 stands for infinity here (an attention mask, a bound): it is cut off."""


def to_typed(
    model: ir.Model,
    dtype: ir.DataType = HALF,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    kept: Mapping[str, str] | None = None,
) -> tuple[ir.Model, dict[str, str]]:
    """A strongly typed copy of a float or Q/DQ graph.

    Args:
        model: float32, opset 13 or above, shapes and types inferred.
        dtype: FLOAT16 or BFLOAT16; bfloat16 has the range of float32, so that only its sums stay there.
        ranges: value name -> least and greatest value that calibration saw.
        kept: node name -> reason, for nodes that are to stay in float32.

    Returns:
        The graph at opset 19 (bfloat16: 22) or above, and for each node that stays float32 the reason. INT8 codes,
        inputs and outputs are as they were.
    """
    model = model.clone()
    opset, ir_version = OPSETS[dtype]
    model.opset_imports[""] = max(model.opset_imports.get("", opset), opset)
    model.ir_version = max(model.ir_version, ir_version)
    asked = kept or {}
    floats = {n: why for n in model.graph if (why := asked.get(n.name or "") or _keeps(n, dtype, ranges or {}))}
    _Typer(model, dtype, floats).run()
    return model, {node.name or node.op_type: why for node, why in floats.items() if why != _NO_FLOAT}


_NO_FLOAT = "nothing in it is float"


def _keeps(node: ir.Node, dtype: ir.DataType, ranges: Mapping[str, tuple[float, float]]) -> str | None:
    """Why a node stays in float32."""
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    if not any(v.dtype == ir.DataType.FLOAT for v in values):
        return _NO_FLOAT
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return None  # as what reads it
    if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
        return "its body is left as it is"
    if node.op_type in _SAY_THEIR_TYPE:
        return "it says the type that it makes by itself"
    if node.op_type in _SUMS:
        return "it forms a sum or a square that can exceed the range of its result"
    if not all(_takes(node, i, dtype) for i, out in enumerate(node.outputs) if out.dtype == ir.DataType.FLOAT):
        return f"it makes no {dtype.name}"
    if dtype != HALF:
        return None
    limit = GREATEST / HEADROOM
    for value in values:
        low, high = ranges.get(value.name or "", (0.0, 0.0))
        most = high if _vanishes(value) else max(-low, high)
        if most > limit:
            return f"its values reach {most:.3g}, and float16 ends at {GREATEST:.0f}"
    return next((why for value in node.inputs if (why := _constant_exceeds(node, value))), None)


def _vanishes(value: ir.Value) -> bool:
    """Whether only a Softmax reads a value: what an attention mask makes very small is zero there, cut off or not."""
    return bool(value.uses()) and all(user.op_type == "Softmax" for user in value.consumers())


def _constant_exceeds(node: ir.Node, value: ir.Value | None) -> str | None:
    if is_constant(value) and value.dtype == ir.DataType.FLOAT and value.const_value is not None:
        sizes = np.abs(value.const_value.numpy())
        if node.op_type not in _CUT and sizes.max(initial=0) > GREATEST:
            return f"a constant of it is {sizes.max():.3g}, and float16 ends at {GREATEST:.0f}"
        if sizes.size == 1 and 0 < sizes.max() < LEAST_SCALE:
            return f"a constant of it is {sizes.max():.3g}, of which float16 holds too little"
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "DequantizeLinear":
        scale = producer.inputs[1]
        if is_constant(scale) and scale.const_value is not None:
            scales = scale.const_value.numpy()
            if not is_constant(producer.inputs[0]) and scales.min() < LEAST_SCALE:
                return f"the scale {scales.min():.3g} of what it reads is too small for float16"
            if _too_large(scales):
                return f"the scale {scales.max():.3g} of what it reads is too large for float16"
    return None


def _too_large(scales: np.ndarray) -> bool:
    return bool(GREATEST < scales.max() < np.inf)


@cache
def _allowed(op_type: str, version: int) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...], bool, bool]:
    """Types that each input and each output of an operator may have; whether the last of each repeats."""
    schema = onnx.defs.get_schema(op_type, version)
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    ins, outs = (tuple(frozenset(formal.types) for formal in formals) for formals in (schema.inputs, schema.outputs))
    return (
        ins,
        outs,
        bool(ins) and schema.inputs[-1].option == variadic,
        bool(outs) and schema.outputs[-1].option == variadic,
    )


def _takes(node: ir.Node, index: int, dtype: ir.DataType, *, inputs: bool = False) -> bool:
    """Whether the specification lets an output (or input) of a node be of a type."""
    version = max(node.graph.opset_imports.get("", 1) if node.graph is not None else 1, OPSETS[dtype][0])
    if node.domain or not onnx.defs.has(node.op_type):
        return False
    ins, outs, more_ins, more_outs = _allowed(node.op_type, version)
    types, more = (ins, more_ins) if inputs else (outs, more_outs)
    if index >= len(types) and not more:
        return False
    return f"tensor({dtype.name.lower()})" in types[min(index, len(types) - 1)]


class _Typer:
    """Gives every float value its type, and every reader the type that it wants."""

    def __init__(self, model: ir.Model, dtype: ir.DataType, kept: Mapping[ir.Node, str]) -> None:
        self.graph, self.dtype, self.kept = model.graph, dtype, kept
        self.taken = value_names(model)
        self.twins: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        nodes = list(self.graph)
        sources = [*self.graph.inputs, *self.graph.initializers.values(), *(v for node in nodes for v in node.outputs)]
        floats = [value for value in sources if value.dtype == ir.DataType.FLOAT]
        uses = {value: [(use.node, use.idx) for use in value.uses()] for value in floats}
        outputs = {value for value in self.graph.outputs if value.dtype == ir.DataType.FLOAT}
        pairs = [node for node in nodes if node.op_type == "DequantizeLinear"]
        for node in nodes:
            if node not in self.kept and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                self._retype(node)
        for value in floats:
            producer = value.producer()
            if producer in pairs:
                self._dequantize(producer, uses[value])
            else:
                for node, index in uses[value]:
                    self._feed(node, index, value)
        for node in nodes:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
        for i, value in enumerate(self.graph.outputs):
            if value in outputs and value.dtype != ir.DataType.FLOAT:
                self._restore(i, value)
        for node in pairs:
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                self.graph.remove(node, safe=True)
        for name in [n for n, v in self.graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
            if not self.graph.initializers[name].is_graph_input():
                self.graph.initializers.pop(name)

    def _retype(self, node: ir.Node) -> None:
        """Let a node make `dtype` where it made float32."""
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT:
                output.type = ir.TensorType(self.dtype)
        if node.attributes.get_int("to", 0) == ir.DataType.FLOAT:
            node.attributes.add(ir.AttrInt64("to", self.dtype))
        elif node.op_type == "ConstantOfShape":
            attribute = node.attributes.get("value")
            filled = attribute.as_tensor().numpy() if attribute is not None else np.zeros(1, np.float32)
            node.attributes.add(ir.AttrTensor("value", self._tensor(filled, "value")))

    def _wants(self, node: ir.Node, index: int) -> ir.DataType:
        """The float type in which a node reads an input."""
        if node.graph is not self.graph or node in self.kept or not _takes(node, index, self.dtype, inputs=True):
            return ir.DataType.FLOAT
        return self.dtype

    def _feed(self, node: ir.Node, index: int, value: ir.Value) -> None:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return  # the pair as a whole takes the type of what it quantizes
        wanted = self._wants(node, index)
        if value.dtype != wanted:
            node.replace_input_with(index, self._as(value, wanted))

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """A value in another float type."""
        if (value, wanted) not in self.twins:
            name = f"{value.name}_{wanted.name.lower()}"
            if is_constant(value) and value.const_value is not None:
                twin = ir.val(fresh(name, self.taken), const_value=self._tensor(value.const_value.numpy(), name))
                self.graph.register_initializer(twin)
            else:
                twin = self._cast(value, wanted, name)
            self.twins[value, wanted] = twin
        return self.twins[value, wanted]

    def _cast(self, value: ir.Value, wanted: ir.DataType, name: str) -> ir.Value:
        cast = ir.node("Cast", [value], {"to": wanted}, name=fresh(f"{name}_Cast", self.taken))
        twin, producer = cast.outputs[0], value.producer()
        twin.name, twin.shape, twin.type = fresh(name, self.taken), value.shape, ir.TensorType(wanted)
        if producer is not None:
            self.graph.insert_after(producer, cast)
        else:
            self.graph.insert_before(self.graph[0], cast)
        return twin

    def _dequantize(self, node: ir.Node, readers: list[tuple[ir.Node, int]]) -> None:
        """One DequantizeLinear for each float type that is read, of the same codes."""
        made: dict[ir.DataType, ir.Value] = {ir.DataType.FLOAT: node.outputs[0]}
        for reader, index in readers:
            wanted = self._wants(reader, index)
            if wanted not in made:
                made[wanted] = self._twin_of(node, wanted)
            if wanted != ir.DataType.FLOAT:
                reader.replace_input_with(index, made[wanted])

    def _twin_of(self, node: ir.Node, wanted: ir.DataType) -> ir.Value:
        _, scale, *zero = node.inputs
        assert scale is not None
        name = f"{node.outputs[0].name}_{wanted.name.lower()}"
        inputs = [self._codes(node, name), self._scale(scale), *zero]
        twin = ir.node("DequantizeLinear", inputs, dict(node.attributes), name=fresh(f"{name}_node", self.taken))
        output = twin.outputs[0]
        output.name, output.shape = fresh(name, self.taken), node.outputs[0].shape
        output.type = ir.TensorType(wanted)
        self.graph.insert_after(node, twin)
        return output

    def _codes(self, node: ir.Node, name: str) -> ir.Value | None:
        """The codes that a node reads; those of weights counted in scales that float16 holds."""
        codes, scale = node.inputs[0], node.inputs[1]
        if self.dtype != HALF or not is_constant(codes) or codes.dtype not in _SYMMETRIC:
            return codes
        assert scale is not None and scale.const_value is not None and codes.const_value is not None
        whole = scale.const_value.numpy()
        half = half_scale(whole)
        if half.min() >= LEAST_SCALE:
            return codes
        axis, block = (node.attributes.get_int(key, default) for key, default in (("axis", 1), ("block_size", 0)))
        data = recoded(codes.const_value.numpy(), whole, half, axis, block)
        name = fresh(f"{name}_codes", self.taken)
        twin = ir.val(name, const_value=ir.tensor(data, dtype=codes.dtype, name=name))
        self.graph.register_initializer(twin)
        return twin

    def _quantize(self, node: ir.Node) -> None:
        """A quantizer has the type of what it reads; a scale that this does not hold keeps it in float32."""
        value, scale = node.inputs[0], node.inputs[1]
        if value is None or scale is None or not is_constant(scale) or scale.const_value is None:
            return
        scales = scale.const_value.numpy()
        exact = self.dtype != HALF or (scales.min() >= LEAST_SCALE and not _too_large(scales))
        if value.dtype == self.dtype and exact:
            node.replace_input_with(1, self._scale(scale))
        elif value.dtype == self.dtype:
            node.replace_input_with(0, self._as(value, ir.DataType.FLOAT))

    def _scale(self, scale: ir.Value) -> ir.Value:
        """A scale in `dtype`."""
        key = (scale, ir.DataType.UNDEFINED)
        if key not in self.twins:
            assert scale.const_value is not None
            data = scale.const_value.numpy()
            data = half_scale(data) if self.dtype == HALF else data
            name = f"{scale.name}_{self.dtype.name.lower()}"
            twin = ir.val(fresh(name, self.taken), const_value=self._tensor(data, name))
            self.graph.register_initializer(twin)
            self.twins[key] = twin
        return self.twins[key]

    def _tensor(self, data: np.ndarray, name: str) -> ir.TensorProtocol:
        greatest = GREATEST if self.dtype == HALF else _GREATEST_BFLOAT
        data = np.where(np.isfinite(data), np.clip(data, -greatest, greatest), data)
        return ir.tensor(data.astype(self.dtype.numpy()), dtype=self.dtype, name=name)

    def _restore(self, index: int, value: ir.Value) -> None:
        """The graph's output in float32, under its name."""
        name = value.name
        cast = self._cast(value, ir.DataType.FLOAT, f"{name}_whole")
        value.name = fresh(f"{name}_{self.dtype.name.lower()}", self.taken)
        cast.name = name
        self.graph.outputs[index] = cast
