"""Support: which nodes TFLite cannot express, all of them at once, found by a dry run of the emitter.

The run is over a normalized copy, as the flow will write it: what normalizing rewrites is no obstacle. Weights are not
copied.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import Finding
from dsedge.backends.litert.emitter import CannotEmit, Emitter
from dsedge.backends.litert.flatbuffer import Flatbuffer, Tensor
from dsedge.backends.litert.ops import OPS
from dsedge.errors import DsedgeError
from dsedge.model import dims, static_shape
from dsedge.passes import discover
from dsedge.passes.base import run
from dsedge.passes.normalize import FINISH, NORMALIZE, clone
from dsedge.quant.plan import QParams


def unsupported(model: ir.Model) -> list[Finding]:
    """Every node that cannot be written.

    Args:
        model: as it was loaded, or normalized; left as it is.

    Returns:
        The nodes with the reasons. Inputs with open axes are named alone, because no shape behind them is known.
    """
    graph = clone(model)
    passes = discover()
    try:
        run((passes[name] for name in (*NORMALIZE, *FINISH)), graph)
    except DsedgeError as error:
        return [Finding("", "", error.because or error.what)]
    inputs = [value for value in graph.graph.inputs if value.name not in graph.graph.initializers]
    if found := [Finding("", "", why) for value in inputs if (why := _open(value))]:
        return found
    if found := [Finding("", "", why) for value in graph.graph.outputs if (why := _codes(value))]:
        return found
    findings: list[Finding] = []
    unwritten: set[ir.Value] = set()

    def refused(node: ir.Node, reason: str) -> None:
        known = node.op_type in OPS and not node.domain
        if known and findings and any(v is not None and static_shape(v) is None for v in node.inputs):
            return  # what it reads is of unknown shape because of a node that was found before
        if any(v is not None and _source(v) in unwritten for v in node.inputs):
            return  # it reads codes of a node that was found before
        unwritten.update(node.outputs)
        if any(isinstance(a.value, ir.Graph) for a in node.attributes.values() if isinstance(a, ir.Attr)):
            reason = "control flow that depends on the data is not written as TFLite"
        shown = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        findings.append(Finding(node.name or "", shown, reason))

    emitter = Emitter(graph.graph, OPS)
    emitter.flatbuffer = _Sketch()
    try:
        for value in inputs:
            emitter.input(value)
        emitter.run(refused)
        for value in graph.graph.outputs if not findings else ():
            emitter.result(value)
    except CannotEmit as reason:
        findings.append(Finding("", "", str(reason)))
    return findings


class _Sketch(Flatbuffer):
    """Keeps no constants, only what is said of them."""

    def constant(self, name: str, array: np.ndarray, qparams: QParams | None = None) -> Tensor:
        """A tensor with data that nobody will ask for."""
        return self._tensor(name, array.shape, array.dtype.name, qparams, 1)


def _open(value: ir.Value) -> str | None:
    """What keeps an input from having a fixed shape."""
    shape = dims(value)
    if shape is None:
        return f"the rank of the input {value.name!r} is not known; TFLite wants the length of every axis"
    if all(isinstance(dim, int) for dim in shape):
        return None
    listed = ", ".join(str(dim) if dim is not None else "?" for dim in shape)
    return f"the input {value.name!r} has open axes, [{listed}]; TFLite wants the length of every axis"


def _codes(value: ir.Value) -> str | None:
    """What keeps an output from being compared: the runner gives real numbers where a model of Q/DQ gives codes."""
    producer = value.producer()
    if producer is None or producer.op_type != "QuantizeLinear":
        return None
    return f"the output {value.name!r} is codes; leave it in float, and --io-dtype makes it codes"


def _source(value: ir.Value) -> ir.Value | None:
    """The codes that a value is made of; None where it is made of none."""
    producer = value.producer()
    return producer.inputs[0] if producer is not None and producer.op_type == "DequantizeLinear" else None
