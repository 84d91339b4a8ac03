"""Shapes and element types."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.detach import attach_weights, detach_weights, forget_maps

# onnx names an axis that it knows nothing about unk__0, unk__1, ...; that is no knowledge worth keeping.
_UNKNOWN = "unk__"


class InferShapes(Pass):
    """Finds the shape and element type of every value.

    What:
        `onnx.shape_inference` with data propagation, without the weights. It starts from the inputs. What the file
        declares counts where the inference finds no shape at all; of axes that it leaves open the declared names
        count, and for outputs the declared lengths too.
    Why:
        Later passes and contracts decide by rank, shape and type. Files whose inputs were edited (a batch made
        dynamic, say) often carry stale shapes of intermediate values, and runtimes ignore those too.
    When not:
        Operators without a shape function keep what the file declares. If the inference fails, every value does.
    Cost:
        One serialization of the graph with initializers over 1 KB left out.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Infers shapes; values whose shape nothing fixes are left without one."""
        before = _snapshot(model)
        declared = {value: value.shape for value in _values(model) if value.producer() is not None}
        for value in declared:
            value.shape = None
        _infer(model)
        for value in _values(model):
            value.shape = _settled(value, declared.get(value))
        return ir.passes.PassResult(model, _snapshot(model) != before)


def _infer(model: ir.Model) -> None:
    """Sets the types and shapes that onnx finds; none when its inference fails."""
    weights = detach_weights(model.graph)
    try:
        proto = ir.to_proto(model)
        _stand_in(proto.graph)
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        forget_maps(proto.graph)
        inferred = ir.from_proto(proto)
    except Exception:  # it raises whatever its C++ code or the file format's does
        return
    finally:
        attach_weights(model.graph, weights)
    for graph, other in zip(model.graphs(), inferred.graphs(), strict=True):
        found = {value.name: value for value in _of_graph(other)}
        for value in _of_graph(graph):
            source = found.get(value.name)
            if source is not None and not value.is_initializer():
                value.shape = source.shape if source.shape is not None else value.shape
                value.type = source.type if source.dtype is not None else value.type


def _stand_in(graph: onnx.GraphProto) -> None:
    """Writes Identity for what keeps type and shape and has no shape function in onnx: there is one such operator."""
    for node in graph.node:
        if node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx"):
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _stand_in(attribute.g)


def _of_graph(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from _of_graph(graph)


def _snapshot(model: ir.Model) -> list[tuple[ir.TypeProtocol | None, ir.Shape | None]]:
    return [(value.type, value.shape) for value in _values(model)]


def _settled(value: ir.Value, declared: ir.Shape | None) -> ir.Shape | None:
    inferred = value.shape if value.shape is not None else declared
    if inferred is None:
        return None
    if declared is None or len(declared) != len(inferred):
        declared = ir.Shape([None] * len(inferred))
    filled = []
    for dim, other in zip(inferred, declared, strict=True):
        usable = not _unknown(other) and (isinstance(other, ir.SymbolicDim) or value.is_graph_output())
        filled.append(dim if not _unknown(dim) else other if usable else None)
    return ir.Shape(filled)


def _unknown(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and (dim.value is None or dim.value.startswith(_UNKNOWN))
