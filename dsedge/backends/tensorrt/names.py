"""Short plain names in a file: the compiler's words are read back as text, and names in a model can be anything."""

from __future__ import annotations

from collections.abc import MutableSequence
from pathlib import Path

import onnx


def rename(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Give all nodes and values of a file names like "n7" and "v7"; weights in another file are not read.

    Args:
        path: of the ONNX file, which is written anew.

    Returns:
        New name -> old name, or operator where there was none, of nodes; old name -> new name of values.
    """
    model = onnx.load(path, load_external_data=False)
    nodes: dict[str, str] = {}
    values: dict[str, str] = {"": ""}
    _rename_graph(model.graph, nodes, values)
    for function in model.functions:
        _rename_all(function.input, values)
        _rename_all(function.output, values)
        _rename_nodes(function.node, nodes, values)
    onnx.save(model, path)
    return nodes, values


def _rename_graph(graph: onnx.GraphProto, nodes: dict[str, str], values: dict[str, str]) -> None:
    del graph.value_info[:], graph.quantization_annotation[:]
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = _new(named.name, values)
    for sparse in graph.sparse_initializer:
        sparse.values.name = _new(sparse.values.name, values)
    _rename_nodes(graph.node, nodes, values)


def _rename_nodes(found: MutableSequence[onnx.NodeProto], nodes: dict[str, str], values: dict[str, str]) -> None:
    for node in found:
        new = f"n{len(nodes)}"
        nodes[new], node.name = node.name or node.op_type, new
        _rename_all(node.input, values)
        _rename_all(node.output, values)
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename_graph(graph, nodes, values)


def _rename_all(names: MutableSequence[str], values: dict[str, str]) -> None:
    names[:] = [_new(name, values) for name in names]


def _new(name: str, values: dict[str, str]) -> str:
    """One new name for an old one, in whatever scope it stands: what was the same stays the same."""
    return values.setdefault(name, f"v{len(values)}")
