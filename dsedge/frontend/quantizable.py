"""What cannot be calibrated is refused: a model that is quantized already, and ends that numpy has no dtype for."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.errors import LoadError
from dsedge.model import Model

_QUANTIZED = frozenset("DynamicQuantizeLinear ConvInteger MatMulInteger QGemm DynamicQuantizeLSTM".split())
_DTYPES = frozenset("float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string".split())


def require_quantizable(model: Model) -> None:
    """Refuse a model that cannot be calibrated.

    Raises:
        LoadError: DS109 it holds quantized operators, DS106 no data can be read for an input, or an output compared.
    """
    for node in model.graph.graph.all_nodes():
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise LoadError(
                "DS109",
                f"the model is quantized already: it holds {node.op_type}",
                where=model.source,
                hint="compile the float model that it was made from",
            )
    types = {value.name: value.type for value in model.graph.graph.inputs}
    for spec in model.inputs:
        tensor = isinstance(types[spec.name], ir.TensorType)
        if not tensor or spec.dtype not in _DTYPES:
            kind = spec.dtype if tensor else "no tensor but a sequence, an optional or the like"
            raise LoadError(
                "DS106",
                f"input {spec.name!r} is {kind}, for which no data can be read",
                where=model.source,
                hint="export the model with float32 inputs",
            )
    for spec in model.outputs:
        if spec.dtype not in _DTYPES and spec.dtype != "unknown":
            what = f"output {spec.name!r} is {spec.dtype}, which cannot be compared"
            raise LoadError("DS106", what, where=model.source, hint="export the model with float32 outputs")
