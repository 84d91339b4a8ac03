"""The emitter: a float or Q/DQ graph, node by node, into TFLite operators.

Three things make it short:

- **Codes.** An operator is INT8 where everything it reads comes through DequantizeLinear and everything it writes goes
  into QuantizeLinear, and TFLite has an INT8 kernel for it. Then it reads and writes codes and the pairs vanish.
  Anything else computes in float, between DEQUANTIZE and QUANTIZE: exactly what the graph says. uint8 codes are written
  as int8, 128 lower, which is the same number.
- **Order.** ONNX keeps channels first, TFLite last. Every value is held in the order in which it was written; an
  operator asks for the order it needs, and a transposition is written only when that is another one. ONNX's Transpose
  writes nothing at all: it renames the axes.
- **Later.** What only changes the view (Reshape, Flatten) is written when someone reads it, so a linear layer can take
  what lies before it and reorder its weights instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import (
    Activation,
    constant_of,
    dequantized,
    equal,
    parameters,
    signed,
    why_not_activation,
)
from dsedge.backends.litert.decide import Op, decide, written_as
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.kernels import CannotEmit, require_size
from dsedge.backends.litert.writer import CHANNELS_LAST, DTYPES, Order, Placed, Writer, dtype_of, name_of
from dsedge.model import static_shape
from dsedge.quant.plan import QParams

__all__ = ["CHANNELS_LAST", "CannotEmit", "Emitter", "Op", "Order", "Placed", "dtype_of"]


class Emitter(Writer):
    """Writes one graph into a flatbuffer.

    An operator's `emit` asks it for the inputs of a node and for its outputs, and writes with what `Writer` has.
    """

    def __init__(self, graph: ir.Graph, ops: Mapping[str, Op]) -> None:
        super().__init__()
        self.graph, self.ops = graph, ops
        self._places: dict[ir.Value, Placed] = {}
        self._later: dict[ir.Value, tuple[str, Callable[[], Placed]]] = {}
        self._constants: dict[tuple[ir.Value, Order, bool], Tensor] = {}
        self._int8, self._fused = decide(graph, ops)
        self._absorbed = {fused.node for fused in self._fused.values()}
        self._ends: set[Tensor] = set()

    # What a graph says about codes.

    def is_int8(self, node: ir.Node) -> bool:
        """Whether a node reads and writes codes."""
        return node in self._int8

    def activation(self, node: ir.Node) -> int:
        """The fused activation of a node, as the schema's ActivationFunctionType counts: 0 where it has none."""
        return self._fused[node].activation.kind if node in self._fused else 0

    # Reading.

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The shape of an ONNX value.

        Raises:
            CannotEmit: when an axis is open, or it is too large.
        """
        shape = static_shape(value)
        if shape is None:
            raise CannotEmit(f"the shape of {value.name!r} is not known before it runs")
        require_size(value.name, shape, value.dtype)
        return shape

    def array(self, node: ir.Node, index: int) -> np.ndarray | None:
        """A constant input as real values or integers, None when the node does not have it.

        Raises:
            CannotEmit: when it is computed at run time.
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            return None
        found = constant_of(value)
        if found is None:
            raise CannotEmit(f"input {index} is computed at run time, TFLite wants a constant")
        array, params = found
        return array if params is None else dequantized(array, params)

    def placed(self, node: ir.Node, index: int) -> Placed:
        """An input in whatever order it is held: codes where the node is INT8, else real values."""
        value = node.inputs[index]
        assert value is not None
        if not self._reads_codes(node, index):
            return self.real(value)
        producer = value.producer()
        assert producer is not None and producer.inputs[0] is not None
        placed = self._codes(producer.inputs[0], parameters(producer))
        return Placed(self._shared(node, placed.tensor), placed.order)

    def _shared(self, node: ir.Node, codes: Tensor) -> Tensor:
        """Codes that a node reads, under the scale that it wants."""
        if not self.ops[node.op_type].same:
            return codes
        last = self._fused[node].node if node in self._fused else node
        params = next((p for out in last.outputs if (p := written_as(out))), None)
        return codes if params is None else self.requantized(codes, params)

    def tensor(self, node: ir.Node, index: int, order: Order | None = None) -> Tensor:
        """An input in a given order; in ONNX's own when it is None."""
        value = node.inputs[index]
        assert value is not None
        order = order or tuple(range(len(self.shape(value))))
        if constant_of(value) is None:
            return self.permuted(self.placed(node, index), order)
        if not self._reads_codes(node, index):
            return self._constant(value, order)
        return self._shared(node, self._constant(value, order, codes=True))

    def bias(self, node: ir.Node, index: int, source: Tensor, weight: Tensor, size: int) -> Tensor:
        """A bias of a given size, zeros when the node has none: int32 on the grid of the codes, else float32.

        On that grid it fits into 32 bits, else the operator was not INT8 (`codes.bias_too_great`).
        """
        value = node.inputs[index] if index < len(node.inputs) else None
        if not self.is_int8(node):
            array = self.array(node, index)
            real = np.zeros(size, np.float32) if array is None else np.broadcast_to(array.reshape(-1), (size,))
            return self.constant(f"{node.name}_bias", real.astype(np.float32))
        assert source.qparams is not None and weight.qparams is not None
        scale = (np.float32(source.qparams.scale) * weight.qparams.scale).astype(np.float32)
        codes = np.zeros(size, np.int32)
        if value is not None:
            found = constant_of(value)
            if found is None:
                raise CannotEmit("its bias is computed at run time")
            codes, params = found
            if params is None or params.dtype != "int32" or not np.allclose(params.scale, scale, rtol=1e-5):
                real = codes if params is None else dequantized(codes, params)
                codes = np.rint(real.astype(np.float64) / scale).astype(np.int32)
            codes = np.broadcast_to(codes.reshape(-1), (size,))
        axis = 0 if scale.ndim else None
        return self.constant(f"{node.name}_bias", codes, QParams(scale, np.zeros(scale.shape, np.int32), "int32", axis))

    def _reads_codes(self, node: ir.Node, index: int) -> bool:
        codes = self.ops[node.op_type].codes
        return self.is_int8(node) and (codes is None or index in codes)

    def real(self, value: ir.Value) -> Placed:
        """A value as real numbers, integers or booleans, never codes."""
        if value not in self._places:
            producer = value.producer()
            if value in self._later:
                self._places[value] = self._write_later(value)
            elif constant_of(value) is not None:
                order = tuple(range(len(self.shape(value))))
                return Placed(self._constant(value, order), order)
            elif producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0] is not None:
                codes = self._codes(producer.inputs[0], parameters(producer))
                with self.on_behalf_of(producer.name or ""):
                    self._places[value] = Placed(self.widened(codes.tensor, value.name or ""), codes.order)
            else:
                raise CannotEmit(f"{value.name!r} is written by nothing")
        if self._places[value].tensor.qparams is not None:
            raise CannotEmit(f"the codes {value.name!r} are read by another operator than DequantizeLinear")
        return self._places[value]

    def _codes(self, value: ir.Value, params: QParams | None) -> Placed:
        if value not in self._places and value in self._later:
            self._places[value] = self._write_later(value)
        if value not in self._places:
            if value.const_value is None or params is None:
                raise CannotEmit(f"the codes of {value.name!r} have parameters that are not constant")
            codes, params = signed(value.const_value.numpy(), params)
            order = tuple(range(codes.ndim))
            self._places[value] = Placed(self.constant(value.name or "", codes, params), order)
        placed = self._places[value]
        if params is None or placed.tensor.qparams is None or not equal(placed.tensor.qparams, params):
            raise CannotEmit(f"{value.name!r} has other scales where it is read than where it is written, or none")
        return placed

    def _write_later(self, value: ir.Value) -> Placed:
        name, write = self._later.pop(value)
        with self.on_behalf_of(name):
            return write()

    def _constant(self, value: ir.Value, order: Order, *, codes: bool = False) -> Tensor:
        """A constant in a given order: as codes when asked, else as real values; float16 is widened at run time."""
        key = (value, order, codes)
        if key not in self._constants:
            found = constant_of(value)
            assert found is not None
            array, params = found
            if params is not None:
                array, params = signed(array, params)
                if params.axis is not None:
                    params = replace(params, axis=order.index(params.axis))
            tensor = self.constant(value.name or "", array.transpose(order), params)
            if array.dtype == np.float16 or (params is not None and not codes):
                tensor = self.widened(tensor, value.name or "")
            self._constants[key] = tensor
        return self._constants[key]

    # Writing.

    def output(self, node: ir.Node, order: Order | None = None, index: int = 0) -> Tensor:
        """The tensor that a node writes: codes where it is INT8, behind its fused activation."""
        out = self._result(node, index)
        shape = self.shape(out)
        order = order or tuple(range(len(shape)))
        params = written_as(out) if self.is_int8(node) else None
        dtype = params.dtype if params is not None else dtype_of(out)
        tensor = self.flatbuffer.activation(out.name or "", [shape[a] for a in order], dtype, params)
        self._bind(node, index, Placed(tensor, order))
        return tensor

    def alias(self, node: ir.Node, placed: Placed, index: int = 0) -> None:
        """Say that a node's result is held by a tensor that is there already."""
        self._bind(node, index, placed)

    def later(self, node: ir.Node, write: Callable[[], Placed]) -> None:
        """Say how a node's only result is written, should anything read it."""
        for value in self._bound(node, 0):
            self._later[value] = (node.name or "", write)

    def _result(self, node: ir.Node, index: int) -> ir.Value:
        return self._fused[node].node.outputs[0] if node in self._fused else node.outputs[index]

    def _bind(self, node: ir.Node, index: int, placed: Placed) -> None:
        for value in self._bound(node, index):
            self._places[value] = placed

    def _bound(self, node: ir.Node, index: int) -> list[ir.Value]:
        out = self._result(node, index)
        codes = self.is_int8(node) and written_as(out) is not None
        return [use.node.outputs[0] for use in out.uses()] if codes else [out]

    # The walk.

    def run(self, refused: Callable[[ir.Node, str], None] | None = None) -> None:
        """Write every node.

        Args:
            refused: told of every node that cannot be written, which then counts as written; without it the first one
                ends the walk.

        Raises:
            CannotEmit: a node cannot be written.
        """
        for node in self.graph:
            if node in self._absorbed or node.op_type == "DequantizeLinear":
                continue
            try:
                with self.on_behalf_of(node.name or ""):
                    self._emit(node)
            except CannotEmit as reason:
                if refused is None:
                    raise
                refused(node, str(reason))
                for out in node.outputs:
                    shape, dtype = static_shape(out) or (), name_of(out)
                    tensor = self.flatbuffer.activation(out.name or "", shape, dtype if dtype in DTYPES else "float32")
                    self._places.setdefault(out, Placed(tensor, tuple(range(len(shape)))))

    def _emit(self, node: ir.Node) -> None:
        if node.op_type == "QuantizeLinear":
            self._quantize(node)
        elif all(constant_of(out) is not None for out in node.outputs):
            return  # float16 behind a Cast
        elif node.domain or node.op_type not in self.ops:
            raise CannotEmit("TFLite has no operator for it")
        else:
            self.ops[node.op_type].emit(self, node)
            if node in self._fused:
                self._cut(node, self._fused[node].activation)

    def _cut(self, node: ir.Node, activation: Activation) -> None:
        """Keep codes within the bounds of a Clip that no activation is and that they do not end at."""
        for op, code in (("MAXIMUM", activation.least), ("MINIMUM", activation.greatest)):
            if code is None:
                continue
            x = self._places[self._bound(node, 0)[0]]
            bound = self.constant("bound", np.array(code, np.int8), x.tensor.qparams)
            out = self.temporary("cut", x.tensor.shape, x.tensor)
            self.op(op, [x.tensor, bound], [out], self.options("MaximumMinimumOptions"))
            self._bind(node, 0, Placed(out, x.order))

    def _quantize(self, node: ir.Node) -> None:
        """Codes of a value that nothing wrote as codes."""
        value, out = node.inputs[0], node.outputs[0]
        if out in self._places or out in self._later:
            return
        params = parameters(node)
        if (why := why_not_activation(params)) is not None:
            raise CannotEmit(why)
        assert params is not None and value is not None
        _, params = signed(np.zeros((), params.dtype), params)
        producer = value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0] is not None:
            placed = self._codes(producer.inputs[0], parameters(producer))
            self._places[out] = Placed(self.requantized(placed.tensor, params), placed.order)
            return
        placed = self.real(value)
        tensor = self.flatbuffer.activation(out.name or "", placed.tensor.shape, params.dtype, params)
        self.op("QUANTIZE", [placed.tensor], [tensor], self.options("QuantizeOptions"))
        self._places[out] = Placed(tensor, placed.order)

    def input(self, value: ir.Value) -> Tensor:
        """The tensor of a graph input; codes where only DequantizeLinear reads it."""
        reader = next((use.node for use in value.uses() if use.node.op_type == "DequantizeLinear"), None)
        params = parameters(reader)
        if reader is not None and (why := why_not_activation(params)) is not None:
            raise CannotEmit(f"the input {value.name!r} is codes that cannot be written as TFLite: {why}")
        shape = self.shape(value)
        tensor = self.flatbuffer.activation(value.name or "", shape, dtype_of(value), params)
        order, placed = tuple(range(len(shape))), Placed(tensor, tuple(range(len(shape))))
        if params is not None and params.dtype == "uint8":  # from here on codes are int8
            _, params = signed(np.zeros((), np.uint8), params)
            with self.on_behalf_of(value.name or ""):
                placed = Placed(self.requantized(tensor, params), order)
        self._places[value] = placed
        self._ends.add(tensor)
        return tensor

    def result(self, value: ir.Value) -> Tensor:
        """The tensor of a graph output, in ONNX's order; a copy where it is an input or another output already."""
        producer = value.producer()
        with self.on_behalf_of((producer.name if producer is not None else value.name) or ""):
            if producer is not None and producer.op_type == "QuantizeLinear":
                params = parameters(producer)
                placed = self._codes(value, params)
                if params is not None and params.dtype == "uint8":
                    placed = Placed(self.requantized(placed.tensor, params), placed.order)
            else:
                placed = self.real(value)
            tensor = self.permuted(placed, tuple(sorted(placed.order)))
            if tensor in self._ends:
                source, tensor = tensor, self.temporary("copy", tensor.shape, tensor)
                self.reshape(source, tensor)
        self._ends.add(tensor)
        return tensor
