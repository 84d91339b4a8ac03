"""ONNX files, which may come from anywhere: nothing in them is trusted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from dsedge.bundle import MANIFEST
from dsedge.errors import LoadError
from dsedge.frontend.shapes import MAX_ELEMENTS
from dsedge.frontend.sparse import densify
from dsedge.frontend.tensors import HINT_BROKEN, check_tensor, declared_bytes, tensors
from dsedge.frontend.versions import settle_versions
from dsedge.model import Model, static_shape
from dsedge.passes.detach import forget_maps, holds_map

if TYPE_CHECKING:
    import onnx

_MAX_CALLS, _MAX_NODES = 64, 1_000_000
# Operators whose constant inputs are weights: an Inf there cannot be meant. Elsewhere it can (an attention mask).
_WEIGHTED = frozenset("Conv ConvTranspose Gemm MatMul LSTM GRU RNN BatchNormalization".split())


def load_onnx(path: Path) -> Model:
    """Load an ONNX file.

    Args:
        path: the file; external data must lie beside it or below.

    Raises:
        LoadError: DS101 unreadable, DS102 not a valid model, DS104 external data, DS105 weights that are not finite,
            DS106 inputs or outputs, DS108 opset.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if path.is_dir():
            bundle = "this is a bundle: `dsedge.Bundle(folder)` opens it, `dsedge inspect` shows it"
            hint = bundle if (path / MANIFEST).is_file() else "give the .onnx file in it"
            raise LoadError("DS101", "this is a folder", where=str(path), hint=hint)
        content = path.read_bytes()
    except OSError as error:
        raise LoadError("DS101", "the file cannot be read", where=str(path), because=error.strerror) from error
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise LoadError(
            "DS102", "not an ONNX model, or a truncated one", where=str(path), because=str(error), hint=HINT_BROKEN
        ) from error
    digest = hashlib.sha256(content)
    del content
    external = list(_external_files(proto, path))
    for file in external:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return from_proto(proto, path.stem, str(path), digest.hexdigest(), folder=path.parent)


def from_proto(proto: onnx.ModelProto, name: str, source: str, fingerprint: str, *, folder: Path | None) -> Model:
    """A model out of a ModelProto whose external data, if any, was found sound.

    Raises:
        LoadError: as `load_onnx`.
    """
    import onnx

    if not proto.HasField("graph") or not proto.graph.node:
        raise LoadError("DS102", "the model holds no graph", where=source, hint=HINT_BROKEN)
    opset = settle_versions(proto, source)
    _check_names(proto, source)
    _check_functions(proto, source)
    for tensor in tensors(proto):
        check_tensor(tensor, source)
    densify(proto, source)
    _refuse_maps(proto, source)
    forget_maps(proto.graph)
    try:
        if folder is not None:
            onnx.external_data_helper.load_external_data_for_model(proto, str(folder))
        graph = ir.from_proto(proto)
        common.TopologicalSortPass()(graph)
        _name_nodes(graph)
        for graph_like in graph.graphs():
            _check_weights(graph_like, source)
    except LoadError:
        raise
    except Exception as error:  # a parser of hostile input may fail in any way
        raise LoadError(
            "DS102", "the graph cannot be read", where=source, because=f"{type(error).__name__}: {error}"
        ) from error
    model = Model(graph=graph, name=name, fingerprint=fingerprint, source=source, source_opset=opset)
    for spec in model.inputs:
        if math.prod(d for d in spec.shape or () if isinstance(d, int)) > MAX_ELEMENTS:
            raise LoadError("DS106", f"input {spec.name!r} is too large", where=source, because=f"its shape is {spec}")
        if spec.shape is not None and 0 in spec.shape:
            raise LoadError(
                "DS106", f"input {spec.name!r} has an axis of length 0", where=source, because=f"its shape is {spec}"
            )
    return model


def _refuse_maps(proto: onnx.ModelProto, source: str) -> None:
    for value in proto.graph.input:
        if holds_map(value.type):
            hint = "export the model with tensors as inputs"
            raise LoadError("DS106", f"input {value.name!r} is a map", where=source, hint=hint)


def _name_nodes(graph: ir.Model) -> None:
    """Give every node a name of its own: runtimes insist on it, and plans and reports refer to nodes by name."""
    taken: set[str] = set()
    for node in graph.graph.all_nodes():
        name = node.name or f"{node.op_type}_{len(taken)}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name


def _check_names(proto: onnx.ModelProto, source: str) -> None:
    for node in proto.graph.node:
        texts = (node.op_type, node.domain, node.name, *node.input, *node.output)
        if not all(isinstance(text, str) for text in texts):
            raise LoadError("DS102", "a name is not UTF-8", where=source, hint=HINT_BROKEN)
    names = [v.name for v in proto.graph.output]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise LoadError(
            "DS106", f"output {doubled[0]!r} is declared twice", where=source, hint="name every output once"
        )
    if not names:
        raise LoadError("DS106", "the model has no outputs", where=source)
    written: set[str] = set()
    for node in proto.graph.node:
        for name in filter(None, node.output):
            if name in written:
                raise LoadError("DS102", f"two nodes write {name!r}", where=source, because="ONNX requires SSA form")
            written.add(name)
    known = written | {v.name for v in proto.graph.input} | {v.name for v in proto.graph.initializer}
    known |= {v.values.name for v in proto.graph.sparse_initializer}
    for name in names:
        if name not in known:
            raise LoadError("DS106", f"nothing computes the output {name!r}", where=source, hint=HINT_BROKEN)


def _external_files(proto: onnx.ModelProto, path: Path) -> Iterator[Path]:
    """The external files, after each reference was checked against the folder and the file's size."""
    folder = path.parent.resolve()
    seen: set[Path] = set()
    for tensor in tensors(proto):
        if not tensor.external_data and tensor.data_location != tensor.EXTERNAL:
            continue
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        file = folder / location
        if not location or "\0" in location or len(location) > 1024 or not _lies_in(file, folder, location):
            raise LoadError(
                "DS104",
                f"external data of {tensor.name!r} lies outside of the model's folder",
                where=str(path),
                because=f"its location is {location!r}",
                hint="put the data file beside the model",
            )
        if not file.is_file():
            raise LoadError(
                "DS104", f"external data file {location!r} is missing", where=str(path), hint="copy it with the model"
            )
        needed = declared_bytes(tensor, str(path))
        offset, length = _number(entries, "offset", path), _number(entries, "length", path) or needed
        if offset + length > file.stat().st_size:
            raise LoadError(
                "DS104",
                f"external data file {location!r} is too short for {tensor.name!r}",
                where=str(path),
                because=f"it has {file.stat().st_size} bytes, {offset + length} are needed",
                hint=HINT_BROKEN,
            )
        if length != needed:
            what = f"external data of {tensor.name!r} has {length} bytes, its shape needs {needed}"
            raise LoadError("DS104", what, where=str(path), hint=HINT_BROKEN)
        if file not in seen:
            seen.add(file)
            yield file


def _lies_in(file: Path, folder: Path, location: str) -> bool:
    try:
        return not Path(location).is_absolute() and file.resolve().is_relative_to(folder)
    except OSError:
        return False


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """Domain and operator of every node, those in bodies of control flow included."""
    for node in nodes:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _calls(body.node)


def _check_functions(proto: onnx.ModelProto, source: str) -> None:
    """Functions must not call themselves, nor unfold into a graph without end."""
    bodies = {(f.domain, f.name): list(_calls(f.node)) for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    depths: dict[tuple[str, str], int] = {}
    for start in bodies:
        stack = [start]
        while stack:
            name = stack[-1]
            waiting = [call for call in bodies[name] if call in bodies and call not in sizes]
            if not waiting:
                sizes[name] = sum(sizes.get(call, 1) for call in bodies[name])
                depths[name] = 1 + max((depths.get(call, 0) for call in bodies[name]), default=0)
                stack.pop()
            if waiting and waiting[0] not in stack and len(stack) < _MAX_CALLS:
                stack.append(waiting[0])
            elif waiting or depths[name] > _MAX_CALLS:
                what = f"function {name[1]!r} calls itself, or calls are nested over {_MAX_CALLS} deep"
                raise LoadError("DS102", what, where=source)
    if sum(sizes.get(call, 1) for call in _calls(proto.graph.node)) > _MAX_NODES:
        raise LoadError("DS102", f"its functions unfold to over {_MAX_NODES} nodes", where=source)


def _number(entries: dict[str, str], key: str, path: Path) -> int:
    text = entries.get(key, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise LoadError("DS104", f"external data has the {key} {text[:40]!r}", where=str(path))
    return int(text)


def _check_weights(graph: ir.Graph, source: str) -> None:
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            continue
        shape = static_shape(value) or tuple(int(d) for d in tensor.shape.numpy())
        declared = math.prod(shape)
        array = tensor.numpy()
        if array.size != declared:
            raise LoadError(
                "DS102",
                f"weight {value.name!r} holds {array.size} of {declared} numbers",
                where=source,
                hint=HINT_BROKEN,
            )
        if not tensor.dtype.is_floating_point() or not array.size:
            continue
        # The sum is finite exactly when every element is, short of overflow, which float64 rules out.
        total = array.sum(dtype=np.float64) if array.dtype.kind == "f" else array.astype(np.float64).sum()
        if math.isfinite(total):
            continue
        is_weight = any(node.op_type in _WEIGHTED for node, _ in value.uses())
        if np.isnan(array.astype(np.float64)).any() or is_weight:
            raise LoadError(
                "DS105",
                f"weight {value.name!r} holds NaN or Inf",
                where=source,
                because="training diverged, or the file is damaged",
                hint="export a checkpoint whose weights are finite",
            )
