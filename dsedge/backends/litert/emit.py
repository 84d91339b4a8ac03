"""Emit: a whole model as a TFLite file."""

from __future__ import annotations

import json

import onnx_ir as ir

from dsedge import __version__
from dsedge.backends.litert.emitter import CannotEmit, Emitter
from dsedge.backends.litert.ops import OPS
from dsedge.errors import BuildError

FACTS, NODES = "dsedge", "dsedge.nodes"
"""Metadata of the file: what made it; and the ONNX node of each operator, a JSON list in the order of the operators."""
_FINGERPRINT = "fingerprint"


def emit(model: ir.Model) -> tuple[bytes, list[tuple[str, str]]]:
    """Write a float or Q/DQ graph.

    Args:
        model: normalized, every axis known; the fingerprint among its metadata goes into the file's.

    Returns:
        The file, and for each of its operators the TFLite name and the name of the ONNX node that it stands for.

    Raises:
        BuildError: DS401 when a node cannot be written, DS403 when the file would exceed 2 GiB.
    """
    emitter = Emitter(model.graph, OPS)
    try:
        inputs = {v.name or "": emitter.input(v) for v in model.graph.inputs if v.name not in model.graph.initializers}
        emitter.run(_refused)
        outputs = {v.name or "": emitter.result(v) for v in model.graph.outputs}
    except CannotEmit as reason:
        raise BuildError("DS401", "the graph cannot be written as TFLite", because=str(reason)) from reason
    written = [emitter.written[index] for index in emitter.flatbuffer.prune(list(outputs.values()))]
    facts = {"version": __version__}
    if _FINGERPRINT in model.metadata_props:
        facts[_FINGERPRINT] = model.metadata_props[_FINGERPRINT]
    metadata = {FACTS: json.dumps(facts).encode(), NODES: json.dumps([node for _, node in written]).encode()}
    return emitter.flatbuffer.serialize(inputs, outputs, metadata), written


def _refused(node: ir.Node, reason: str) -> None:
    where = f"{node.op_type} {node.name!r}"
    raise BuildError("DS401", "a node cannot be written as TFLite", where=where, because=reason)
