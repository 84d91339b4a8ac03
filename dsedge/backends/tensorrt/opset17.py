"""Opset 17: a graph of the canonical opset in the words that TensorRT 8.5's parser knows.

That parser (JetPack 5) reads opset 17 and version 8 of the file format. What later opsets say by an input it wants as
an attribute, and operators that came later are written out as the specification defines them. LayerNormalization and
HardSwish are older, and are written out as well: the parser of 8.5 has neither, and the compilers of all versions find
the pattern.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from dsedge.errors import BuildError
from dsedge.passes.detach import attach_weights, detach_weights
from dsedge.passes.edit import constant, ints, is_constant, label, nodes, value_names

OPSET, IR_VERSION = 17, 8

_REDUCTIONS = "ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"


def to_opset17(model: ir.Model) -> ir.Model:
    """A copy of a float or Q/DQ graph at opset 17.

    Args:
        model: float32, opset 13 or above, shapes inferred.

    Raises:
        BuildError: DS401 for a node that opset 17 cannot say.
    """
    model = model.clone()
    taken = value_names(model)
    for node in list(nodes(model)):
        if write := _WRITERS.get(node.op_type):
            write(_Place(node, taken))
        elif not node.domain and not _known(node.op_type):
            raise _Place(node, taken).refused("it came later")
    model.opset_imports[""] = min(model.opset_imports.get("", OPSET), OPSET)
    model.ir_version = IR_VERSION
    for name in [n for n, v in model.graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        if name not in {v.name for v in model.graph.inputs}:
            model.graph.initializers.pop(name)
    _require_valid(model)
    return model


def with_all_axes(model: ir.Model) -> ir.Model:
    """Pad and Resize of some axes as those of all, which every TensorRT from 8.5 on reads.

    Its parser has axes of Pad from 10.4 on, and scales of some axes for Resize in no version up to 10.15.

    Returns:
        The model itself when there are none, else a copy.

    Raises:
        BuildError: DS401 where the axes or lengths are computed.
    """
    if not any(map(_names_axes, nodes(model))):
        return model
    model = model.clone()
    taken = value_names(model)
    for node in [node for node in nodes(model) if _names_axes(node)]:
        _WRITERS[node.op_type](_Place(node, taken))
    return model


def _names_axes(node: ir.Node) -> bool:
    if node.op_type == "Pad":
        return len(node.inputs) > 3 and node.inputs[3] is not None
    return node.op_type == "Resize" and "axes" in node.attributes


class _Place:
    """Writes nodes in place of one."""

    def __init__(self, node: ir.Node, taken: set[str]) -> None:
        assert node.graph is not None and isinstance(node.graph, ir.Graph)
        self.node, self.graph, self.taken = node, node.graph, taken

    def input(self, index: int) -> ir.Value | None:
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def rank(self) -> int:
        value = self.input(0)
        if value is None or value.shape is None:
            raise self.refused("the number of its axes is unknown")
        return len(value.shape)

    def const(self, data: object, dtype: type = np.float32) -> ir.Value:
        return constant(self.graph, f"{label(self.node)}_{dtype.__name__}", np.asarray(data, dtype), self.taken)

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: ir.Attr | int | float | list[int]) -> ir.Value:
        made = ir.node(op_type, list(inputs), attributes or None, name=self._free(op_type))
        output = made.outputs[0]
        output.name, output.type = self._free(f"{op_type}_output"), self.node.outputs[0].type
        self.graph.insert_before(self.node, made)
        return output

    def become(self, value: ir.Value) -> None:
        """Let the node's output be `value`, under the node's names."""
        old, producer = self.node.outputs[0], value.producer()
        assert producer is not None
        name, value.shape, value.type = old.name, old.shape, old.type
        old.name = None
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        value.name, producer.name = name, self.node.name
        self.graph.remove(self.node, safe=True)

    def drop_input(self, index: int) -> None:
        if index < len(self.node.inputs):
            self.node.replace_input_with(index, None)
            while self.node.inputs and self.node.inputs[-1] is None:
                self.node.resize_inputs(len(self.node.inputs) - 1)

    def drop(self, name: str, default: int | str) -> None:
        """Drop an attribute that opset 17 does not know, and that says nothing but the default."""
        attribute = self.node.attributes.get(name)
        if attribute is not None and attribute.value != default:
            raise self.refused(f"{name} is {attribute.value}")
        self.node.attributes.pop(name, None)

    def refused(self, because: str) -> BuildError:
        what = f"opset {OPSET} has no {self.node.op_type} like this one"
        return BuildError("DS401", what, where=label(self.node), because=because)

    def _free(self, name: str) -> str:
        candidate, count = f"{label(self.node)}_{name}", 0
        while candidate in self.taken:
            count += 1
            candidate = f"{label(self.node)}_{name}_{count}"
        self.taken.add(candidate)
        return candidate


def _reduction(place: _Place) -> None:
    value = place.input(1)
    axes = ints(value) if value is not None else None
    if value is not None and axes is None:
        raise place.refused("its axes are computed")
    if not axes and place.node.attributes.get_int("noop_with_empty_axes", 0) == 1:
        raise place.refused("without axes it changes nothing")
    place.drop_input(1)
    place.node.attributes.pop("noop_with_empty_axes", None)
    if axes:
        place.node.attributes.add(ir.AttrInt64s("axes", axes))


def _split(place: _Place) -> None:
    count = place.node.attributes.pop("num_outputs", None)
    value = place.input(0)
    if count is None or value is None:
        return
    axis = place.node.attributes.get_int("axis", 0)
    length = value.shape[axis] if value.shape is not None else None
    if not isinstance(length, int):
        raise place.refused("the length that it splits is unknown")
    part = -(-length // len(place.node.outputs))
    sizes = [min(part, max(length - i * part, 0)) for i in range(len(place.node.outputs))]
    place.node.resize_inputs(2)
    place.node.replace_input_with(1, place.const(sizes, np.int64))


def _pad(place: _Place) -> None:
    if place.node.attributes.get_string("mode", "constant") == "wrap":
        raise place.refused("its mode is wrap")
    value = place.input(3)
    if value is None:
        return
    axes, pads, rank = ints(value), ints(place.input(1)), place.rank()
    if axes is None or pads is None:
        raise place.refused("its axes or pads are computed")
    whole = np.zeros((2, rank), np.int64)
    whole[:, axes] = np.reshape(pads, (2, -1))
    place.drop_input(3)
    place.node.replace_input_with(1, place.const(whole.ravel(), np.int64))


def _resize(place: _Place) -> None:
    place.drop("antialias", 0)
    place.drop("keep_aspect_ratio_policy", "stretch")
    axes = place.node.attributes.pop("axes", None)
    if place.node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise place.refused("its coordinates are half_pixel_symmetric")
    if axes is None:
        return
    rank, given = place.rank(), [int(axis) for axis in axes.as_ints()]
    scales, sizes, value = place.input(2), ints(place.input(3)), place.input(0)
    if is_constant(scales) and scales.const_value is not None and scales.const_value.size:
        full = np.ones(rank, np.float32)
        full[given] = scales.const_value.numpy()
        place.node.replace_input_with(2, place.const(full))
    elif sizes is not None and value is not None and value.shape is not None:
        lengths = list(value.shape)
        for axis, size in zip(given, sizes, strict=True):
            lengths[axis] = size
        if not all(isinstance(length, int) for length in lengths):
            raise place.refused("the lengths of its other axes are unknown")
        place.node.replace_input_with(3, place.const(lengths, np.int64))
    else:
        raise place.refused("its scales or sizes are computed")


def _gelu(place: _Place) -> None:
    x = place.input(0)
    if place.node.attributes.get_string("approximate", "none") == "tanh":
        cube = place.op("Mul", place.op("Mul", x, x), x)
        inner = place.op("Add", x, place.op("Mul", cube, place.const(0.044715)))
        curve = place.op("Tanh", place.op("Mul", inner, place.const(np.sqrt(2 / np.pi))))
    else:
        curve = place.op("Erf", place.op("Mul", x, place.const(np.sqrt(0.5))))
    half = place.op("Mul", x, place.const(0.5))
    place.become(place.op("Mul", half, place.op("Add", curve, place.const(1.0))))


def _mish(place: _Place) -> None:
    x = place.input(0)
    place.become(place.op("Mul", x, place.op("Tanh", place.op("Softplus", x))))


def _hard_swish(place: _Place) -> None:
    x = place.input(0)
    place.become(place.op("Mul", x, place.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)))


def _layer_normalization(place: _Place) -> None:
    if any(output.uses() or output.is_graph_output() for output in place.node.outputs[1:]):
        raise place.refused("its mean or its deviation is used")
    x, rank = place.input(0), place.rank()
    axis = place.node.attributes.get_int("axis", -1) % rank
    axes = list(range(axis, rank))
    centred = place.op("Sub", x, place.op("ReduceMean", x, axes=axes, keepdims=1))
    variance = place.op("ReduceMean", place.op("Mul", centred, centred), axes=axes, keepdims=1)
    epsilon = place.const(place.node.attributes.get_float("epsilon", 1e-5))
    y = place.op("Div", centred, place.op("Sqrt", place.op("Add", variance, epsilon)))
    y = place.op("Mul", y, place.input(1))
    place.become(place.op("Add", y, bias) if (bias := place.input(2)) is not None else y)


def _grid_sample(place: _Place) -> None:
    names = {"linear": "bilinear", "cubic": "bicubic"}
    mode = place.node.attributes.get_string("mode", "linear") or "linear"
    place.node.attributes.add(ir.AttrString("mode", names.get(mode, mode)))


def _average_pool(place: _Place) -> None:
    dilations = place.node.attributes.pop("dilations", None)
    if dilations is not None and set(dilations.as_ints()) != {1}:
        raise place.refused("it has dilations")


def _scatter(place: _Place) -> None:
    reduction = place.node.attributes.get_string("reduction", "none")
    if reduction not in ("none", "add", "mul"):
        raise place.refused(f"its reduction is {reduction}")


def _without_saturate(place: _Place) -> None:
    place.node.attributes.pop("saturate", None)  # of 8-bit floats only


_WRITERS: dict[str, Callable[[_Place], None]] = {
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    **dict.fromkeys(("Cast", "CastLike", "QuantizeLinear"), _without_saturate),
    **dict.fromkeys(("ScatterElements", "ScatterND"), _scatter),
    "AveragePool": _average_pool,
    "Gelu": _gelu,
    "GridSample": _grid_sample,
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_normalization,
    "Mish": _mish,
    "Pad": _pad,
    "Resize": _resize,
    "Split": _split,
}


def _known(op_type: str) -> bool:
    return bool(onnx.defs.has(op_type, OPSET))


def _require_valid(model: ir.Model) -> None:
    """Against the specification of opset 17; the weights, whatever their size, stay outside."""
    weights = detach_weights(model.graph)
    try:
        onnx.checker.check_model(ir.to_proto(model))
    except onnx.checker.ValidationError as error:
        because = str(error).strip().splitlines()[0][:300]
        raise BuildError("DS401", f"the graph cannot be written in opset {OPSET}", because=because) from error
    finally:
        attach_weights(model.graph, weights)
