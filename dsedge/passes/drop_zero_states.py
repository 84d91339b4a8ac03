"""Initial states of recurrent layers."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import array, is_constant, label, nodes

# Inputs that hold an initial state, by operator.
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
# Operators that make zeros of zeros.
_KEEPS_ZERO = frozenset("Expand Tile Reshape Squeeze Unsqueeze Flatten Transpose Identity Cast Slice Gather".split())


class DropZeroStates(Pass):
    """Removes initial states of LSTM, GRU and RNN that are zero.

    What:
        initial_h and initial_c that are zeros, constant or spread over the batch in the graph, are left out, which
        means zero by the definition of these operators.
    Why:
        Exporters write the zeros out. A constant state fixes the batch size, a computed one drags Shape, Gather and
        Expand along, and DynamicQuantizeLSTM and other runtimes' kernels want neither.
    When not:
        The state is an input of the model or not zero.
    Cost:
        Linear in recurrent nodes and in the size of their constant states.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Drops zero states and notes those that are not."""
        modified = False
        for node in nodes(model):
            for index in _STATES.get(node.op_type, ()):
                state = node.inputs[index] if index < len(node.inputs) else None
                if state is None:
                    continue
                if _is_zero(state):
                    node.replace_input_with(index, None)
                    modified = True
                else:
                    self.notes.append(f"{label(node)}: the initial state {state.name!r} is not constant zero")
        return ir.passes.PassResult(model, modified)


def _is_zero(value: ir.Value | None) -> bool:
    if is_constant(value):
        return not array(value).any()
    node = value.producer() if value is not None else None
    if node is None or node.domain != "":
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get_tensor("value")
        return fill is None or not fill.numpy().any()
    if node.op_type == "Concat":
        return all(_is_zero(part) for part in node.inputs)
    return node.op_type in _KEEPS_ZERO and _is_zero(node.inputs[0])
