"""LSTM: step by step, and as UNIDIRECTIONAL_SEQUENCE_LSTM where there are too many steps for that.

The state of TFLite's operator lies in variable tensors: zero at first, out of reach for the graph, and kept from one
inference to the next until whoever runs it resets it. XNNPACK does not run it, and LiteRT's CompiledModel loads no
variable tensors. Step by step there is no state that lasts, and XNNPACK runs all of it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops import unrolled
from dsedge.backends.litert.ops.recurrent import Layer, apply, joined, matrix, read, reshaped, vector

_TANH = 4  # ActivationFunctionType in the schema
_FUNCTIONS = (("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0), ("tanh", 0.0, 0.0))
_GATES = (0, 2, 3, 1)
"""TFLite's order, input, forget, cell, output, in ONNX's count: input, output, forget, cell."""
_PEEPHOLES = (0, 2, 1)
"""The same without the cell."""


def lstm(e: Emitter, node: ir.Node) -> None:
    """LSTM: step by step, or the fused operator for each direction."""
    if node.attributes.get_int("input_forget", 0):
        raise CannotEmit("its input and forget gates are coupled")
    layer = read(e, node, 4, ("Sigmoid", "Tanh", "Tanh"))
    obstacle = _obstacle(layer)
    if obstacle is None:
        _fused(e, layer)
    else:
        unrolled.unroll(e, layer, unrolled.lstm, 2, obstacle)


def _obstacle(layer: Layer) -> str | None:
    """Why a node is not written as TFLite's operator."""
    if layer.clip:
        return "TFLite's LSTM clips its cell and not its gates"
    if any(functions != _FUNCTIONS for functions in layer.functions):
        return "TFLite's LSTM has Sigmoid and Tanh only"
    if layer.takes(5) or layer.takes(6) or layer.gives(2):
        return "TFLite's LSTM takes no initial state and gives no cell state"
    if layer.steps <= unrolled.MAX_STEPS:
        return "TFLite's LSTM keeps its state from one inference to the next"
    return None


def _fused(e: Emitter, layer: Layer) -> None:
    """One operator for each direction, batch or time first, whichever way the input is held."""
    batch_first = layer.order("X", "NTC")
    axes = "NT" if e.placed(layer.node, 0).order == batch_first else "TN"
    x = e.tensor(layer.node, 0, layer.order("X", axes + "C"))
    time = axes.index("T")
    sequences, ends = [], []
    for d, reverse in enumerate(layer.reverse):
        source = _reversed(e, x, time) if reverse else x
        y = _sequence(e, layer, d, source, time_major=axes == "TN")
        ends.append((_last(e, layer, y, time),) if layer.gives(1) else ())
        sequences.append(_reversed(e, y, time) if reverse and layer.gives(0) else y)
    if layer.gives(0):
        unrolled.finish(e, layer, joined(e, sequences, 2), axes + "DH")
    unrolled.finish_states(e, layer, ends)


def _sequence(e: Emitter, layer: Layer, d: int, x: Tensor, *, time_major: bool) -> Tensor:
    node, size = layer.node, layer.hidden
    rows = [slice(g * size, (g + 1) * size) for g in _GATES]
    weights = [matrix(e, node, index, d, part) for index in (1, 2) for part in rows]
    peepholes: list[Tensor | None] = [None] * 3
    if layer.takes(7):
        given = vector(e, node, 7, d, 3 * size).reshape(3, size)
        peepholes = [e.constant("peephole", given[g]) for g in _PEEPHOLES]
    bias = vector(e, node, 3, d, 8 * size).reshape(2, 4, size).sum(axis=0)
    biases = [e.constant("bias", bias[g]) for g in _GATES]
    states = [e.flatbuffer.variable(f"{node.name}_{kind}{d}", (layer.batch, size), "float32") for kind in "hc"]
    options = e.options("UnidirectionalSequenceLSTMOptions", fusedActivationFunction=_TANH, timeMajor=time_major)
    out = e.flatbuffer.activation(f"t{len(e.written)}", (*x.shape[:2], size), "float32")
    inputs = [x, *weights, *peepholes, *biases, None, None, *states]
    e.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [out], options)
    return out


def _reversed(e: Emitter, x: Tensor, axis: int) -> Tensor:
    return apply(e, "REVERSE_V2", [x, e.constant("axis", np.array([axis], np.int32))], "ReverseV2Options")


def _last(e: Emitter, layer: Layer, y: Tensor, time: int) -> Tensor:
    """The last step of a sequence: [batch, hidden]."""
    begin, size = [0, 0, 0], list(y.shape)
    begin[time], size[time] = layer.steps - 1, 1
    ends = [e.constant(name, np.array(array, np.int32)) for name, array in (("begin", begin), ("size", size))]
    last = apply(e, "SLICE", [y, *ends], "SliceOptions", size)
    return reshaped(e, last, (layer.batch, layer.hidden))


OPS = {
    "LSTM": Op(lstm),
    "GRU": Op(unrolled.emit_gru),
    "RNN": Op(unrolled.emit_rnn),
}
