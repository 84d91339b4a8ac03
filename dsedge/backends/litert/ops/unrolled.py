"""Recurrent layers, unrolled over time.

The product of all inputs with W is one FULLY_CONNECTED; each step is a FULLY_CONNECTED with R and elementwise
operators. All steps read the same constants. After ONNX's definition of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Placed
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.recurrent import (
    Layer,
    activate,
    add,
    apply,
    fully_connected,
    joined,
    matrix,
    multiply,
    read,
    reshaped,
    split,
    vector,
)

MAX_STEPS = 128
"""Steps that are unrolled at most: each adds a dozen operators, one or two kilobytes of file."""

States = tuple[Tensor, ...]
"""The hidden state, and of an LSTM that of its cell: [batch, hidden] each."""
Step = Callable[[Sequence[Tensor], States], States]
"""From the products of one step's input with W, and the states before it, to the states behind it."""
Cell = Callable[[Emitter, Layer, int], tuple[list[tuple[slice, np.ndarray]], Step]]
"""For one direction of a layer: which rows of W are multiplied with which bias, and the step."""


def unroll(e: Emitter, layer: Layer, cell: Cell, states: int, because: str) -> None:
    """Write a layer, step by step.

    Args:
        e: the emitter.
        layer: what to write.
        cell: its mathematics.
        states: how many there are; those that are given are the inputs from 5 on, those that are taken the outputs from
            1 on.
        because: why it is not written as one operator.

    Raises:
        CannotEmit: when it has too many steps.
    """
    if layer.steps > MAX_STEPS:
        raise CannotEmit(f"{because}, so it is written step by step, and {layer.steps} steps are more than {MAX_STEPS}")
    x = e.tensor(layer.node, 0, layer.order("X", "TNC"))
    starts = [initial(e, layer, i) for i in range(states)]
    sequences, ends = [], []
    for d, reverse in enumerate(layer.reverse):
        rows, step = cell(e, layer, d)
        products = [
            fully_connected(e, x, matrix(e, layer.node, 1, d, part), e.constant("bias", bias)) for part, bias in rows
        ]
        by_time = list(zip(*(split(e, product, layer.steps, 0) for product in products), strict=True))
        held: States = tuple(start[d] for start in starts)
        sequence = []
        for parts in reversed(by_time) if reverse else by_time:
            held = step(parts, held)
            sequence.append(held[0])
        sequences.append(sequence[::-1] if reverse else sequence)
        ends.append(held)
    if layer.gives(0):
        finish(e, layer, joined(e, [joined(e, s, 0) for s in sequences], 1), "TNDH")
    finish_states(e, layer, ends)


def initial(e: Emitter, layer: Layer, index: int) -> list[Tensor]:
    """A state at the beginning, for each direction [batch, hidden]."""
    shape, directions = (layer.batch, layer.hidden), len(layer.reverse)
    if not layer.takes(5 + index):
        return [e.constant("zeros", np.zeros(shape, np.float32))] * directions
    given = e.tensor(layer.node, 5 + index, layer.order("S", "DNH"))
    return [reshaped(e, part, shape) for part in split(e, given, directions, 0)]


def finish(e: Emitter, layer: Layer, sequence: Tensor, axes: str) -> None:
    """Bind the output Y to a tensor that holds it in the order of these axes, up to its shape."""
    lengths = {"T": layer.steps, "N": layer.batch, "D": len(layer.reverse), "H": layer.hidden}
    y = reshaped(e, sequence, [lengths[axis] for axis in axes])
    e.alias(layer.node, Placed(y, layer.order("Y", axes)))


def finish_states(e: Emitter, layer: Layer, ends: Sequence[States]) -> None:
    """Bind the outputs Y_h and Y_c, from the states of each direction behind its last step."""
    for i, state in enumerate(zip(*ends, strict=True)):
        if layer.gives(1 + i):
            y = reshaped(e, joined(e, state, 1), (layer.batch, len(layer.reverse), layer.hidden))
            e.alias(layer.node, Placed(y, layer.order("S", "NDH")), 1 + i)


def lstm(e: Emitter, layer: Layer, d: int) -> tuple[list[tuple[slice, np.ndarray]], Step]:
    """The cell of an LSTM, with gates in ONNX's order: input, output, forget, cell.

    As in ONNX Runtime, `clip` bounds the gates and the candidate, not the cell that the output is made of.
    """
    size, node = layer.hidden, layer.node
    biases = vector(e, node, 3, d, 8 * size)
    recurrent, bias = matrix(e, node, 2, d, slice(0, 4 * size)), e.constant("bias", biases[4 * size :])
    peepholes = None
    if layer.takes(7):
        rows = vector(e, node, 7, d, 3 * size).reshape(3, size)
        peepholes = [e.constant("peephole", row) for row in rows]
    f, g, h = layer.functions[d]

    def gate(x: Tensor, cell: Tensor, index: int) -> Tensor:
        if peepholes is not None:
            x = add(e, x, multiply(e, cell, peepholes[index]))
        return activate(e, f, x, layer.clip)

    def step(products: Sequence[Tensor], states: States) -> States:
        hidden, cell = states
        all_gates = add(e, fully_connected(e, hidden, recurrent, bias), products[0])
        i, o, forget, c = split(e, all_gates, 4, 1)
        kept = multiply(e, gate(forget, cell, 2), cell)
        cell = add(e, kept, multiply(e, gate(i, cell, 0), activate(e, g, c, layer.clip)))
        return multiply(e, gate(o, cell, 1), activate(e, h, cell)), cell

    return [(slice(0, 4 * size), biases[: 4 * size])], step


def gru(e: Emitter, layer: Layer, d: int) -> tuple[list[tuple[slice, np.ndarray]], Step]:
    """The cell of a GRU, with gates in ONNX's order: update, reset, hidden."""
    size, node = layer.hidden, layer.node
    gates, new = slice(0, 2 * size), slice(2 * size, 3 * size)
    input_bias, recurrent_bias = vector(e, node, 3, d, 6 * size).reshape(2, 3 * size)
    to_gates, to_new = ((matrix(e, node, 2, d, r), e.constant("bias", recurrent_bias[r])) for r in (gates, new))
    f, g = layer.functions[d]
    reset_behind = node.attributes.get_int("linear_before_reset", 0)

    def step(products: Sequence[Tensor], states: States) -> States:
        (hidden,) = states
        both = add(e, fully_connected(e, hidden, *to_gates), products[0])
        update, reset = split(e, activate(e, f, both, layer.clip), 2, 1)
        if reset_behind:
            product = multiply(e, fully_connected(e, hidden, *to_new), reset)
        else:
            product = fully_connected(e, multiply(e, hidden, reset), *to_new)
        candidate = activate(e, g, add(e, product, products[1]), layer.clip)
        kept = multiply(e, apply(e, "SUB", [hidden, candidate], "SubOptions"), update)
        return (add(e, kept, candidate),)

    return [(gates, input_bias[gates]), (new, input_bias[new])], step


def rnn(e: Emitter, layer: Layer, d: int) -> tuple[list[tuple[slice, np.ndarray]], Step]:
    """The cell of a plain recurrent layer."""
    size = layer.hidden
    input_bias, recurrent_bias = vector(e, layer.node, 3, d, 2 * size).reshape(2, size)
    recurrent, bias = matrix(e, layer.node, 2, d, slice(0, size)), e.constant("bias", recurrent_bias)
    (f,) = layer.functions[d]

    def step(products: Sequence[Tensor], states: States) -> States:
        product = fully_connected(e, states[0], recurrent, bias)
        return (activate(e, f, add(e, product, products[0]), layer.clip),)

    return [(slice(0, size), input_bias)], step


def emit_gru(e: Emitter, node: ir.Node) -> None:
    """GRU."""
    unroll(e, read(e, node, 3, ("Sigmoid", "Tanh")), gru, 1, "TFLite has no GRU")


def emit_rnn(e: Emitter, node: ir.Node) -> None:
    """RNN."""
    unroll(e, read(e, node, 1, ("Tanh",)), rnn, 1, "TFLite's RNN takes and gives no state")
