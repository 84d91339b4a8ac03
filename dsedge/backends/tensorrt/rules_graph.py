"""Rules on the graph as a whole: operators, element types, opset, shapes, weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsedge.backends.tensorrt.operators import doubt, refusal
from dsedge.backends.tensorrt.quantizers import nodes
from dsedge.backends.tensorrt.rule import Chip, Found, Rule, collect

RULES: list[Rule] = []
rule = collect(RULES)

LEAST_OPSET = 9
GREATEST_OPSET = (((11, 0), 25), ((10, 15), 24), ((10, 6), 22), ((10, 0), 21), ((8, 5), 17))
"""TensorRT from which on -> greatest opset, from onnx-tensorrt's docs/operators.md of that version. That of 10.0 says
20, and INT4 among the types, which ONNX has from 21 on."""
_D = ir.DataType
_UNREAD = (_D.STRING, _D.COMPLEX64, _D.COMPLEX128, _D.INT16, _D.UINT16, _D.UINT32, _D.UINT64, _D.UINT4)
NOT_IN_8 = frozenset(
    "BlackmanWindow HammingWindow HannWindow Hardmax IsInf MeanVarianceNormalization Mod OneHot RandomNormal "
    "RandomNormalLike Reciprocal STFT Shrink Trilu".split()
)
_SHAPES: dict[str, Collection[int]] = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Pad"), (1,)),
    "ConstantOfShape": (0,),
    "Resize": (3,),
}
"""Operator -> the inputs that say the lengths of its result."""
_COUNTS = ("Cast", "Identity", "Concat", "Squeeze", "Unsqueeze", "Slice", "Gather", "Add", "Sub", "Mul", "Div")
_BYTES = ("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "Identity")


def _values(model: ir.Model) -> Iterator[tuple[ir.Node | None, ir.Value]]:
    """Inputs, weights and results, each with the node that makes it or that it goes to."""
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        yield next(iter(value.consumers()), None), value
    for node in model.graph.all_nodes():
        for value in node.outputs:
            yield node, value


@rule("TRT101", "refused", because="there is no importer for it", hint="export with other operators, or leave it out")
def operator(model: ir.Model, chip: Chip) -> Found:
    """An operator that NVIDIA's parser does not know, or one of another domain than ONNX's own."""
    for node in model.graph.all_nodes():
        local = (node.domain, node.op_type, node.overload) in model.functions
        reason = None if local else refusal(node.op_type, node.domain)
        if reason:
            yield node, reason


@rule(
    "TRT102",
    "refused",
    severity="warning",
    because="TensorRT-RTX does not build it, so nothing is known of it before the device",
    hint="build on the device before relying on it",
)
def doubtful_operator(model: ir.Model, chip: Chip) -> Found:
    """An operator that the parser knows and the compiler does not build, though TensorRT may."""
    for node in model.graph.all_nodes():
        if node.domain in ("", "ai.onnx") and not refusal(node.op_type) and (reason := doubt(node.op_type)):
            yield node, reason


@rule(
    "TRT103",
    "runs",
    because="the parser of that TensorRT reads operators as the opset that it was written for has them",
    hint="the graph of the bundle that is for this version; up to 8.6 opset 17, from 10.0 on opset 21, from 10.6 on 22",
)
def opset(model: ir.Model, chip: Chip) -> Found:
    """The opset is above or below what the TensorRT of the target is documented to read."""
    found = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if found is None:
        return
    if found < LEAST_OPSET:
        yield None, f"opset {found} is below {LEAST_OPSET}"
    for since, most in GREATEST_OPSET:
        if chip.version is not None and chip.version >= since:
            if found > most:
                yield None, f"opset {found} is above {most}, the greatest known for TensorRT {_dotted(chip.version)}"
            break


@rule("TRT104", "refused", because="an engine is built for a range of shapes", hint="--shape name=least:usual:most")
def open_axes(model: ir.Model, chip: Chip) -> Found:
    """An input has an open axis, and there is no optimization profile for it."""
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.name in chip.profiled:
            continue
        if value.shape is None or any(not isinstance(length, int) for length in value.shape):
            yield None, f"the input {value.name} has open axes and no optimization profile"


@rule("TRT105", "refused", because="TensorRT has no such element type", hint="cast it before the model, or to int32")
def element_type(model: ir.Model, chip: Chip) -> Found:
    """A tensor of strings, complex numbers, or integers of 16 bits or without a sign."""
    for node, value in _values(model):
        if value.dtype in _UNREAD:
            yield node, f"{value.name} is {_type_name(value)}"


@rule("TRT106", "wrong", because="it is computed as float32, and cut off at its limits", hint="export it as float32")
def double(model: ir.Model, chip: Chip) -> Found:
    """A tensor is float64."""
    for node, value in _values(model):
        if value.dtype == _D.DOUBLE:
            yield node, f"{value.name} is float64"


@rule("TRT107", "refused", because="bytes can only be cast", hint="cast to float first")
def bytes_computed(model: ir.Model, chip: Chip) -> Found:
    """An operator computes on uint8."""
    for node in model.graph.all_nodes():
        if node.op_type not in _BYTES and any(v is not None and v.dtype == _D.UINT8 for v in node.inputs):
            yield node, "computes on uint8"


@rule(
    "TRT108",
    "runs",
    severity="warning",
    because="a body is compiled apart: nothing is fused over its border; what a loop carries must keep its shape, and "
    "both branches of an If must have the same rank",
    hint="export without control flow where it can be unrolled",
)
def control_flow(model: ir.Model, chip: Chip) -> Found:
    """A Loop, Scan or If is left in the graph."""
    for node in nodes(model, "Loop", "Scan", "If"):
        yield node, "an operator with a body"


@rule("TRT109", "refused", because="the weights are not there", hint="copy the file of weights beside the model")
def missing_weights(model: ir.Model, chip: Chip) -> Found:
    """External data is missing or too short."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None:
            yield None, f"the weight {value.name} has no value"
        elif isinstance(tensor, ir.ExternalTensor):
            file = Path(tensor.path)
            if not file.is_file() or file.stat().st_size < (tensor.offset or 0) + (tensor.length or tensor.nbytes):
                yield None, f"the file of the weight {value.name} is missing or too short"


@rule("TRT110", "wrong", because="all that it touches becomes NaN or infinite", hint="look at how it was trained")
def not_finite(model: ir.Model, chip: Chip) -> Found:
    """A weight of a product holds NaN or an infinite number. (-inf in a mask is meant.)"""
    for node in nodes(model, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        for value in node.inputs[1:]:
            tensor = value.const_value if value is not None else None
            if tensor is None or tensor.dtype not in (_D.FLOAT, _D.FLOAT16, _D.BFLOAT16, _D.DOUBLE):
                continue
            if not np.isfinite(tensor.numpy().astype(np.float32)).all():
                yield node, f"the weight {tensor.name} holds NaN or Inf"


@rule("TRT111", "refused", because="tensor cores compute bfloat16 from 8.0 on", hint="use float16")
def bfloat16(model: ir.Model, chip: Chip) -> Found:
    """Tensors in bfloat16 on a GPU before Ampere."""
    for node, value in _values(model):
        if value.dtype == _D.BFLOAT16 and chip.capability < (8, 0):
            yield node, f"{value.name} is bfloat16"


@rule(
    "TRT112",
    "refused",
    severity="warning",
    because="TensorRT-RTX builds no float32 products for 7.5; TensorRT has kernels for them",
    hint="check the float16 graph instead",
)
def turing_product(model: ir.Model, chip: Chip) -> Found:
    """A matrix product in float32 for compute capability 7.5: a note on what can be checked without the GPU."""
    for node in nodes(model, "Gemm", "MatMul"):
        if chip.capability == (7, 5) and node.outputs[0].dtype in (_D.FLOAT, None):
            yield node, "a product in float32"


@rule(
    "TRT113",
    "refused",
    because="engines are built for inputs whose values decide no shape",
    hint="make the lengths constants of the model, or let them follow from the shapes of its inputs",
)
def shape_input(model: ir.Model, chip: Chip) -> Found:
    """A shape is computed from the values of an integer input."""
    whole = (_D.INT32, _D.INT64)
    reached = [value for value in model.graph.inputs if value.dtype in whole]
    seen = set(reached)
    while reached:
        for use in reached.pop().uses():
            if use.idx in _SHAPES.get(use.node.op_type, ()):
                yield use.node, "its shape follows from the values of an input"
            elif use.node.op_type in _COUNTS:
                new = [value for value in use.node.outputs if value.dtype in (*whole, None) and value not in seen]
                reached += new
                seen |= set(new)


@rule(
    "TRT114",
    "runs",
    severity="warning",
    because="not known for 8.5: the list of 8.4's parser does not have it (onnx-tensorrt, docs/operators.md), and "
    "the operators known here are those of a later one",
    hint="build on the device before relying on it",
)
def later_than_8(model: ir.Model, chip: Chip) -> Found:
    """An operator, or a mode of Resize, that is not known for TensorRT 8."""
    for node in model.graph.all_nodes() if chip.version is not None and chip.version < (10, 0) else ():
        if node.op_type in NOT_IN_8 and node.domain in ("", "ai.onnx"):
            yield node, f"the operator {node.op_type}"
        if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
            yield node, "Resize by cubic interpolation"


def _type_name(value: ir.Value) -> str:
    return value.dtype.name.lower() if value.dtype is not None else "of unknown type"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
