"""Read: the operators of a written TFLite file, with what they compute on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dsedge.backends.litert.emit import NODES


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        index: in the file.
        op: its name in the schema's BuiltinOperator.
        version: as the file has it.
        node: the ONNX node that it stands for, "" when the file does not say.
        inputs, outputs: indices of tensors; -1 for an input that is left out.
        precision: "int8" where it reads or writes codes and no real numbers, "hybrid" where it multiplies real numbers
            with a constant of codes, "float", or "integer" for what works on shapes, indices or booleans.
    """

    index: int
    op: str
    version: int
    node: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    precision: Literal["int8", "hybrid", "float", "integer"]


def read(path: Path) -> list[Operator]:
    """The operators of a file, in its order."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    nodes = _nodes(model, len(graph.operators))
    found = []
    for index, (operator, node) in enumerate(zip(graph.operators, nodes, strict=True)):
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs, outputs = (tuple(map(int, tensors)) for tensors in (operator.inputs, operator.outputs))
        precision = _precision(schema, model, graph.tensors, inputs, outputs)
        found.append(Operator(index, name, code.version, node, inputs, outputs, precision))
    return found


def _nodes(model: Any, count: int) -> list[str]:
    """The ONNX node of each operator, from the metadata."""
    for entry in model.metadata or []:
        data = model.buffers[entry.buffer].data  # None where another tool moved it behind the flatbuffer
        if entry.name == NODES.encode() and data is not None:
            listed = json.loads(bytes(data))
            return [str(node) for node in listed] if len(listed) == count else [""] * count
    return [""] * count


def _precision(
    schema: Any, model: Any, tensors: list[Any], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> Literal["int8", "hybrid", "float", "integer"]:
    kinds = schema.TensorType
    read = [tensors[i] for i in inputs if i >= 0]
    constants = [t for t in read if _holds_data(model.buffers[t.buffer])]
    moving = [t for t in read if not any(t is c for c in constants)] + [tensors[i] for i in outputs]
    codes = (kinds.INT8, kinds.UINT8)
    if any(t.type in (kinds.FLOAT32, kinds.FLOAT16) for t in moving):
        return "hybrid" if any(t.type in codes for t in constants) else "float"
    return "int8" if any(t.type in codes for t in moving) else "integer"


def _holds_data(buffer: Any) -> bool:
    """Whether a buffer is a constant's, in the flatbuffer or behind it."""
    return bool(buffer.size) or (buffer.data is not None and len(buffer.data) > 0)
