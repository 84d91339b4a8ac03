"""A loaded model: the ONNX graph, what goes in and out of it, and who it is.

`Model` is what every step of the flow passes on. The graph is an `onnx_ir.Model`; precision is explicit in it, through
QuantizeLinear and DequantizeLinear nodes, so a float model and a quantized one are the same kind of thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

Dim = int | str | None
"""One axis: its length, its symbolic name, or None when the model says nothing about it."""

RANGES = "ranges"
"""Key under which a graph on its way to a backend carries `Model.ranges`, as JSON."""


class Range(NamedTuple):
    """Lengths of an open axis: the least, the one to tune for, and the greatest."""

    least: int
    usual: int
    greatest: int

    def __str__(self) -> str:
        return f"{self.least}:{self.usual}:{self.greatest}"


# Operators through which a tensor keeps the meaning of its axes.
_ELEMENTWISE = frozenset(
    "Add Sub Mul Div Neg Relu Clip Sigmoid Tanh Cast Identity Dropout BatchNormalization Pad LeakyRelu QuantizeLinear "
    "DequantizeLinear".split()
)
_SPATIAL = frozenset(
    "Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool InstanceNormalization LRN "
    "DepthToSpace SpaceToDepth Resize Upsample".split()
)
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)  # bodies are graphs of the model themselves
_SPATIAL_LAYOUTS = {3: "NCW", 4: "NCHW", 5: "NCDHW"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: its name in the graph.
        dtype: numpy's name of its element type, or "string" or "unknown".
        shape: one `Dim` an axis; None when not even the rank is known.
        layout: what each axis means, a letter an axis ("NCHW", "NTC"); None when the graph does not say.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None
    layout: str | None = None

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype}[{dims}]" + (f" {self.layout}" if self.layout else "")


@dataclass(frozen=True)
class Model:
    """A model on its way through the flow.

    Attributes:
        graph: the ONNX model as onnx_ir holds it.
        name: a short name, the file's stem or the module's class.
        fingerprint: sha256 of the source as it was read, in hex; it does not change as passes rewrite the graph.
        source: where the model came from, for people ("digits_cnn.onnx", "torch module DigitsCNN").
        source_opset: the opset of the default domain as the source declared it.
        states: of a streaming model: input name -> the output that is its next value (`dsedge.streaming`).
        ranges: name of an open axis -> the lengths that it may have, for runtimes that build for those.
    """

    graph: ir.Model
    name: str
    fingerprint: str
    source: str
    source_opset: int
    states: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = field(init=False)
    outputs: tuple[TensorSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.graph.graph
        inputs = [v for v in graph.inputs if v.name not in graph.initializers]
        object.__setattr__(self, "inputs", tuple(_spec(v, layout_of(v)) for v in inputs))
        object.__setattr__(self, "outputs", tuple(_spec(v, None) for v in graph.outputs))

    @property
    def opset(self) -> int:
        """Opset version of the default ONNX domain."""
        return self.graph.opset_imports.get("", 0)

    def to_bytes(self) -> bytes:
        """The graph as a serialized ONNX ModelProto, weights inside."""
        return bytes(ir.to_proto(self.graph).SerializeToString())

    def with_graph(self, graph: ir.Model) -> Model:
        """The same model with another graph."""
        return replace(self, graph=graph)


def graph_digest(model: ir.Model) -> str:
    """sha256, in hex, of what a graph computes: its operators, their attributes and edges, and its weights."""
    digest = hashlib.sha256()
    for graph in model.graphs():
        for node in graph:
            names = [v.name if v is not None else None for v in (*node.inputs, *node.outputs)]
            attributes = sorted(f"{a.name}={a.value}" for a in node.attributes.values() if a.type not in _GRAPHS)
            digest.update(repr((node.domain, node.op_type, names, attributes)).encode())
        for name, value in sorted(graph.initializers.items()):
            if value.const_value is not None:
                digest.update(f"{name} {value.const_value.dtype} {value.const_value.shape}".encode())
                digest.update(value.const_value.tobytes())
    return digest.hexdigest()


def dtype_name(value: ir.Value) -> str:
    """numpy's name for the element type of a value: "float32", "uint8", "string", or "unknown"."""
    if value.dtype is None or value.dtype == ir.DataType.UNDEFINED:
        return "unknown"
    if value.dtype == ir.DataType.STRING:
        return "string"
    return np.dtype(value.dtype.numpy()).name


def dims(value: ir.Value) -> tuple[Dim, ...] | None:
    """The axes of a value, or None when its rank is unknown. Some exporters write -1 for an axis that may vary."""
    if value.shape is None:
        return None
    return tuple((d if d >= 0 else None) if isinstance(d, int) else d.value for d in value.shape)


def static_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The shape of a value when every axis is a number, else None."""
    shape = dims(value)
    if shape is None:
        return None
    return tuple(d for d in shape if isinstance(d, int)) if all(isinstance(d, int) for d in shape) else None


def layout_of(value: ir.Value) -> str | None:
    """What the axes of a graph input mean, read from the operators that consume it and never from its shape.

    The ONNX specification fixes the layout of spatial operators (N, C, then space) and of LSTM, GRU and RNN. The walk
    follows elementwise operators and transpositions from the input to the first of them.

    Returns:
        A letter an axis, or None when no consumer fixes it, or two disagree.
    """
    if value.shape is None:
        return None
    found: set[str] = set()
    seen: set[ir.Value] = set()
    # order[i]: which axis of the input is axis i of the value that the walk has come to.
    walk: list[tuple[ir.Value, tuple[int, ...]]] = [(value, tuple(range(len(value.shape))))]
    while walk:
        v, order = walk.pop()
        if v in seen:
            continue
        seen.add(v)
        for node, index in v.uses():
            layout: str | None = None
            if node.op_type in _SPATIAL and index == 0:
                layout = _SPATIAL_LAYOUTS.get(len(order))
            elif node.op_type in ("LSTM", "GRU", "RNN") and index == 0:
                layout = "NTC" if node.attributes.get_int("layout", 0) else "TNC"
            elif node.op_type == "Transpose":
                perm = tuple(node.attributes.get_ints("perm", tuple(reversed(range(len(order))))))
                if sorted(perm) == list(range(len(order))):
                    walk.append((node.outputs[0], tuple(order[p] for p in perm)))
            elif node.op_type in _ELEMENTWISE and index == 0:
                walk.append((node.outputs[0], order))
            if layout and len(layout) == len(order):
                letters = [""] * len(order)
                for axis, letter in zip(order, layout, strict=True):
                    letters[axis] = letter
                found.add("".join(letters))
    return found.pop() if len(found) == 1 else None


def _spec(value: ir.Value, layout: str | None) -> TensorSpec:
    return TensorSpec(value.name or "", dtype_name(value), dims(value), layout)
