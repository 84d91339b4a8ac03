"""What a model is made of: operators, parameters, multiply-accumulates, versions, and what goes in and out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from dsedge.backends.base import available, installed_backend, load_backend
from dsedge.bundle import Bundle, sha256
from dsedge.errors import BundleError
from dsedge.model import Model, TensorSpec, dims, dtype_name
from dsedge.passes import run
from dsedge.passes.infer_shapes import InferShapes
from dsedge.passes.inline_functions import InlineFunctions
from dsedge.passes.normalize import clone


@dataclass(frozen=True)
class Parameters:
    """Constants of one element type: how many elements, and their size in bytes."""

    count: int
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """Facts about a model, read from its graph and never by running it.

    Attributes:
        name, source, fingerprint: of the model.
        producer: what wrote the file, as the file says.
        opsets: operator domain -> version; the default domain is "ai.onnx".
        inputs, outputs: with shapes and layouts.
        nodes: number of nodes, bodies of control flow included, model-local functions inlined.
        operators: operator -> number of nodes, the most frequent first; other domains are written out.
        parameters: element type -> initializers and Constant nodes of that type.
        macs: multiply-accumulates of one run; a lower bound where `notes` says so.
        macs_by_operator: where they are, the most first.
        notes: what the number of multiply-accumulates assumes or leaves out.
    """

    name: str
    source: str
    fingerprint: str
    producer: str
    opsets: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: int
    operators: dict[str, int]
    parameters: dict[str, Parameters]
    macs: int
    macs_by_operator: dict[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The inspection as plain data."""
        plain = dict(vars(self))
        for key in ("inputs", "outputs"):
            plain[key] = [dict(vars(spec)) for spec in plain[key]]
        plain["parameters"] = {dtype: dict(vars(found)) for dtype, found in self.parameters.items()}
        return plain


@dataclass(frozen=True)
class ArtifactInspection:
    """Facts about an artifact that is no ONNX file, from the file and from its bundle's manifest.

    Attributes:
        name: of the model that it was made from.
        source, fingerprint: the file that was read, and its sha256.
        runtime: with version and variant.
        precision: of the artifact as a whole.
        inputs, outputs: name, dtype, shape and layout of each; scale and zero_point of codes.
        nodes: number of operators.
        operators: type -> precision -> number of operators, the most frequent type first.
        bytes: size of its files.
    """

    name: str
    source: str
    fingerprint: str
    runtime: str
    precision: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    nodes: int
    operators: dict[str, dict[str, int]]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """The inspection as plain data."""
        return dict(vars(self))


def inspect_artifact(bundle: Bundle) -> ArtifactInspection | None:
    """Reads the facts of a bundle's artifact; None for one that is an ONNX file, which can be loaded as a model.

    Raises:
        BuildError: DS402 when the runtime is missing, whose packages read the file.
        BundleError: DS803 when the file is missing or damaged.
    """
    manifest, path = bundle.manifest, bundle.file("model")
    runtime = manifest.runtime
    read = getattr(load_backend(runtime.name), "operators", None) if runtime.name in available() else None
    if not callable(read):
        return None
    installed_backend(runtime.name)
    try:
        found = Counter(read(path))
    except Exception as error:  # whatever a damaged file leads to
        because = f"{type(error).__name__}: {error}"
        raise BundleError("DS803", "the artifact cannot be read", where=str(path), because=because) from error
    operators: dict[str, dict[str, int]] = {}
    for (op, precision), count in found.most_common():
        operators.setdefault(op, {})[precision] = count
    return ArtifactInspection(
        name=manifest.model.name,
        source=str(path),
        fingerprint=sha256(path),
        runtime=f"{runtime.name} {runtime.version}, variant {runtime.variant}",
        precision=manifest.precision.precision,
        inputs=tuple(manifest.model.inputs),
        outputs=tuple(manifest.model.outputs),
        nodes=found.total(),
        operators=operators,
        bytes=sum(info.bytes for info in manifest.files if info.role == "model"),
    )


def inspect_model(model: Model) -> Inspection:
    """Reads the facts of a model; the model is not changed.

    Raises:
        PassError: DS301 when model-local functions cannot be inlined.
    """
    graph = clone(model.graph)
    run([InlineFunctions, InferShapes], graph)
    nodes = list(ir.traversal.RecursiveGraphIterator(graph.graph))
    macs, notes = _count_macs(nodes)
    graphs = list(graph.graphs())
    if len(graphs) > 1:
        notes.append("bodies of If, Loop and Scan are counted once, however often they run")
    written_by = f"{model.graph.producer_name or ''} {model.graph.producer_version or ''}".strip()
    return Inspection(
        name=model.name,
        source=model.source,
        fingerprint=model.fingerprint,
        producer=written_by or "unknown",
        opsets={domain or "ai.onnx": version for domain, version in model.graph.opset_imports.items()},
        inputs=model.inputs,
        outputs=model.outputs,
        nodes=len(nodes),
        operators=dict(Counter(map(_operator, nodes)).most_common()),
        parameters=_parameters([value for g in graphs for value in _constants(g)]),
        macs=macs.total(),
        macs_by_operator=dict(macs.most_common()),
        notes=tuple(notes),
    )


def _operator(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def _constants(graph: ir.Graph) -> Iterator[tuple[str, ir.TensorProtocol]]:
    for value in graph.initializers.values():
        if value.const_value is not None:
            yield dtype_name(value), value.const_value
    for node in graph:
        tensor = node.attributes.get("value")
        if node.op_type == "Constant" and tensor is not None and tensor.type == ir.AttributeType.TENSOR:
            yield dtype_name(node.outputs[0]), tensor.as_tensor()


def _parameters(constants: list[tuple[str, ir.TensorProtocol]]) -> dict[str, Parameters]:
    found: dict[str, Parameters] = {}
    for dtype, tensor in constants:
        before = found.get(dtype, Parameters(0, 0))
        found[dtype] = Parameters(before.count + tensor.size, before.bytes + tensor.nbytes)
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


class _Unknown(Exception):
    """A shape that the count needs is not known."""


def _count_macs(nodes: list[ir.Node]) -> tuple[Counter[str], list[str]]:
    macs: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    symbols: set[str] = set()
    for node in nodes:
        formula = _FORMULAS.get(node.op_type) if node.domain in _DOMAINS else None
        if formula is None:
            if node.op_type in _NO_FORMULA:
                unknown[node.op_type] += 1
            continue
        try:
            macs[_operator(node)] += formula(node, symbols)
        except _Unknown:
            unknown[node.op_type] += 1
    notes = []
    if symbols:
        notes.append(f"axes without a length count as 1: {', '.join(sorted(symbols))}")
    if unknown:
        listed = ", ".join(f"{count} {op}" for op, count in sorted(unknown.items()))
        notes.append(f"not counted, for want of a shape or a formula: {listed}")
    return macs, notes


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of one node, axes without a length counted as 1; 0 without a formula or a shape."""
    formula = _FORMULAS.get(node.op_type) if node.domain in _DOMAINS else None
    try:
        return formula(node, set()) if formula else 0
    except _Unknown:
        return 0


def _lengths(value: ir.Value | None, symbols: set[str]) -> list[int]:
    """The shape with 1 for every axis without a length; the names of those axes are added to `symbols`."""
    shape = dims(value) if value is not None else None
    if shape is None:
        raise _Unknown
    symbols.update(dim or "unnamed" for dim in shape if not isinstance(dim, int))
    return [dim if isinstance(dim, int) else 1 for dim in shape]


_Formula = Callable[[ir.Node, set[str]], int]


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _convolution(weight: int) -> _Formula:
    """Each output element takes one weight [C/group, kernel...]; W is [M, C/group, kernel...]."""
    return lambda node, symbols: (
        math.prod(_lengths(node.outputs[0], symbols)) * math.prod(_lengths(_input(node, weight), symbols)[1:])
    )


def _transposed(node: ir.Node, symbols: set[str]) -> int:
    """Each input element meets one weight [M/group, kernel...]; W is [C, M/group, kernel...]."""
    return math.prod(_lengths(_input(node, 0), symbols)) * math.prod(_lengths(_input(node, 1), symbols)[1:])


def _product(right: int) -> _Formula:
    """Each output element takes K, the length of the axis that is summed over."""

    def macs(node: ir.Node, symbols: set[str]) -> int:
        lengths = _lengths(_input(node, right), symbols)
        if not lengths:
            raise _Unknown
        k = lengths[-1] if node.attributes.get_int("transB", 0) else lengths[max(len(lengths) - 2, 0)]
        return math.prod(_lengths(node.outputs[0], symbols)) * k

    return macs


def _recurrent(node: ir.Node, symbols: set[str]) -> int:
    """Each step of each sequence takes all of W and R, the biases and the elementwise gates left out."""
    steps = math.prod(_lengths(_input(node, 0), symbols)[:2])
    return steps * sum(math.prod(_lengths(_input(node, i), symbols)) for i in (1, 2))


_DOMAINS = ("", "ai.onnx", "com.microsoft")
_FORMULAS: dict[str, _Formula] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "Gemm": _product(1),
    "FusedGemm": _product(1),
    "QGemm": _product(3),
    "MatMul": _product(1),
    "MatMulInteger": _product(1),
    "MatMulIntegerToFloat": _product(1),
    "DynamicQuantizeMatMul": _product(1),
    "FusedMatMul": _product(1),
    "QLinearMatMul": _product(3),
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
}
_NO_FORMULA = {"Attention", "MultiHeadAttention", "GroupQueryAttention", "DeformConv", "Einsum", "MatMulNBits"}
