"""Interface: inputs and outputs of an artifact as codes instead of real numbers, `--io-dtype int8` or `uint8`.

A Q/DQ graph quantizes its own inputs and dequantizes its own outputs. Taking that out of the graph leaves both to the
caller, who often has codes already: a camera's bytes, or a label that needs no scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx_ir as ir

from dsedge.data import Feeds
from dsedge.errors import LoadError, did_you_mean
from dsedge.model import dtype_name
from dsedge.passes.edit import constant, fresh, value_names
from dsedge.quant.contract import Contract, NumberFormat
from dsedge.quant.plan import QParams
from dsedge.quant.qparams import quantize

IoDtype = Literal["float", "int8", "uint8"]
IO_DTYPES: tuple[IoDtype, ...] = ("float", "int8", "uint8")

_DTYPES: dict[str, Literal["int8", "uint8"]] = {"int8": "int8", "uint8": "uint8"}

MOVES = frozenset("Transpose Reshape Squeeze Unsqueeze Flatten Identity".split())
"""Operators that change where numbers lie and nothing else, so that they commute with a quantizer."""


def require_io_dtype(wanted: str, contract: Contract) -> IoDtype:
    """The wanted type of inputs and outputs.

    Raises:
        LoadError: DS145 when there is no such type, DS146 when the runtime's artifacts have real inputs and outputs.
    """
    if wanted not in IO_DTYPES:
        raise LoadError(
            "DS145", f"{wanted!r} is no type of inputs", where="--io-dtype", hint=did_you_mean(wanted, IO_DTYPES)
        )
    if wanted != "float" and not contract.integer_io:
        what = f"{contract.id} has no inputs and outputs of {wanted} codes"
        because = "its artifacts read and write real numbers"
        raise LoadError("DS146", what, where="--io-dtype", because=because, hint="leave out --io-dtype")
    return next(dtype for dtype in IO_DTYPES if dtype == wanted)


def with_codes(
    model: ir.Model, wanted: IoDtype, states: Mapping[str, str] | None = None
) -> tuple[ir.Model, dict[str, QParams], list[str]]:
    """Give a Q/DQ graph inputs and outputs of codes.

    An input that is read through QuantizeLinear alone becomes one of codes with a DequantizeLinear behind it, and an
    output that DequantizeLinear writes becomes one of codes with a QuantizeLinear before it; operators of `MOVES` may
    lie between. A pair that then does nothing vanishes. Codes of the other type than the graph's are 128 apart, and so
    are their zero points.

    Args:
        model: a Q/DQ graph, every node named; left as it is.
        wanted: the type of the codes; with "float" nothing changes.
        states: of a streaming model: input -> the output that is its next value. Both are codes under the same
            parameters, or both stay float.

    Returns:
        A copy; name -> the parameters, for each input and output that is codes; and a note for each that is none.
    """
    if wanted == "float":
        return model, {}, []
    model = model.clone()
    graph, taken = model.graph, value_names(model) | {node.name or "" for node in model.graph}
    codes: dict[str, QParams] = {}
    why: dict[str, str] = {}
    for value in (v for v in graph.inputs if _is_float(v)):
        if quantizers := _quantizers(value):
            codes[value.name or ""] = _shifted(_parameters(quantizers[0]), wanted)
        else:
            why[value.name or ""] = "something reads it that is not INT8"
    for value in (v for v in graph.outputs if _is_float(v)):
        if source := _dequantizer(value):
            codes[value.name or ""] = _shifted(_parameters(source), wanted)
        else:
            why[value.name or ""] = "what writes it is not INT8"
    for pair in (states or {}).items():
        one, other = (codes.get(name) for name in pair)
        if one is None or other is None or not _equal(one, other):
            for name in pair:
                codes.pop(name, None)
                why.setdefault(name, "a state and its next value are codes of one scale, or both are float")
    for value in [v for v in graph.inputs if v.name in codes]:
        _input_of_codes(graph, value, codes[value.name or ""], taken)
    for index, value in enumerate(list(graph.outputs)):
        if value.name in codes:
            _output_of_codes(graph, index, codes[value.name], taken)
    sides = {value.name: "output" for value in graph.outputs}
    notes = [f"the {sides.get(name, 'input')} {name!r} stays float: {reason}" for name, reason in why.items()]
    others = [v for v in (*graph.inputs, *graph.outputs) if v.name not in codes and v.name not in why]
    for value in others:
        dtype = dtype_name(value)
        notes.append(
            f"the {sides.get(value.name, 'input')} {value.name!r} is {dtype} in the model, and stays so: "
            "codes take the place of real numbers only"
        )
    return model, codes, notes


def tied_states(graph: ir.Graph, states: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of values that must share one scale, because one is the other's next value in a streaming model.

    Args:
        graph: normalized.
        states: input -> output.

    Returns:
        Names of values: of each state and what only moves its numbers, with those of its next value.
    """
    ends = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    pairs = []
    for state, output in states.items():
        before, behind = _moved_from(ends[state]), _moved_to(ends[output])
        pairs += [(one.name or "", other.name or "") for one in before for other in behind]
    return pairs


def _moved_from(value: ir.Value) -> list[ir.Value]:
    found = [value]
    for current in found:  # which grows meanwhile
        found += [n.outputs[0] for n, index in current.uses() if n.op_type in MOVES and not n.domain and index == 0]
    return found


def _moved_to(value: ir.Value) -> list[ir.Value]:
    node, source = value.producer(), None
    if node is not None and node.op_type in MOVES and not node.domain:
        source = node.inputs[0]
    return [value] if source is None else [value, *_moved_to(source)]


def output_scales(graph: ir.Graph) -> list[float | None]:
    """For each output of a Q/DQ graph the scale of the codes that it is made of, None where it is computed in float."""
    sources = [_dequantizer(value) for value in graph.outputs]
    return [None if source is None else float(_parameters(source).scale) for source in sources]


def as_codes(feeds: Feeds, codes: Mapping[str, QParams]) -> Feeds:
    """Arrays of real numbers for inputs, as codes where an input is codes."""
    formats = {name: NumberFormat(_DTYPES[params.dtype], symmetric=False) for name, params in codes.items()}
    return {k: quantize(v, codes[k], formats[k]) if k in codes else v for k, v in feeds.items()}


def to_json(params: Mapping[str, QParams], name: str) -> dict[str, object]:
    """What a manifest says of an input or output of codes: dtype, scale and zero point; nothing for one in float."""
    if name not in params:
        return {}
    found = params[name]
    return {"dtype": found.dtype, "scale": float(found.scale), "zero_point": int(found.zero_point)}


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _quantizers(value: ir.Value) -> list[ir.Node] | None:
    """The QuantizeLinear nodes that read a value, all of them alike; None when anything else does."""
    found: list[ir.Node] = []
    walk = [value]
    while walk:
        current = walk.pop()
        if current.is_graph_output() or not current.uses():
            return None
        for node, index in current.uses():
            if node.op_type == "QuantizeLinear" and index == 0 and _per_tensor(node):
                found.append(node)
            elif node.op_type in MOVES and not node.domain and index == 0:
                walk.append(node.outputs[0])
            else:
                return None
    first = _parameters(found[0])
    return found if all(_equal(_parameters(quantizer), first) for quantizer in found) else None


def _equal(one: QParams, other: QParams) -> bool:
    return bool(one.scale == other.scale and one.zero_point == other.zero_point and one.dtype == other.dtype)


def _dequantizer(value: ir.Value) -> ir.Node | None:
    """The DequantizeLinear of a tensor of codes that a value comes from, None when something computes on it."""
    node = value.producer()
    while node is not None and node.op_type in MOVES and not node.domain and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "DequantizeLinear" or not _per_tensor(node):
        return None
    return node if node.inputs[0] is not None and node.inputs[0].const_value is None else None


def _per_tensor(node: ir.Node) -> bool:
    given = [v.const_value if v is not None else None for v in node.inputs[1:3]]
    return len(given) == 2 and all(tensor is not None and tensor.size == 1 for tensor in given)


def _parameters(node: ir.Node) -> QParams:
    scale, zero_point = (v.const_value.numpy() for v in node.inputs[1:3] if v is not None and v.const_value is not None)
    return QParams(scale.astype(np.float32).reshape(()), zero_point.reshape(()), zero_point.dtype.name)


def _shifted(params: QParams, wanted: str) -> QParams:
    """The parameters under which codes of the wanted type mean the same."""
    offset = {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((params.dtype, wanted), 0)
    return QParams(params.scale, np.array(int(params.zero_point) + offset, wanted), wanted)


def _input_of_codes(graph: ir.Graph, value: ir.Value, params: QParams, taken: set[str]) -> None:
    name = value.name or ""
    real = ir.Value(name=fresh(f"{name}_real", taken), shape=value.shape, type=value.type)
    value.replace_all_uses_with(real)
    value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(params.dtype)))
    inputs = [value, *_constants(graph, name, params, taken)]
    dequantize = ir.Node("", "DequantizeLinear", inputs, outputs=[real], name=fresh(f"{name}_codes", taken))
    graph.insert_before(graph[0], dequantize)
    for node in [use.node for use in real.uses()]:
        if node.op_type == "QuantizeLinear" and _parameters(node).dtype == params.dtype:
            node.outputs[0].replace_all_uses_with(value)
            graph.remove(node, safe=True)
    if not real.uses():
        graph.remove(dequantize, safe=True)


def _output_of_codes(graph: ir.Graph, index: int, params: QParams, taken: set[str]) -> None:
    value = graph.outputs[index]
    name, writer = value.name or "", value.producer()
    assert writer is not None
    source = writer.inputs[0]
    value.name = fresh(f"{name}_real", taken)
    direct = writer.op_type == "DequantizeLinear" and _parameters(writer).dtype == params.dtype
    if direct and source is not None and not source.is_graph_input() and not source.is_graph_output():
        source.name = name
        graph.outputs[index] = source
        if not value.uses():
            graph.remove(writer, safe=True)
        return
    inputs = [value, *_constants(graph, name, params, taken)]
    quantize = ir.Node("", "QuantizeLinear", inputs, num_outputs=1, name=fresh(f"{name}_codes", taken))
    codes = quantize.outputs[0]
    codes.name, codes.shape = name, value.shape
    codes.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(params.dtype)))
    graph.append(quantize)
    graph.outputs[index] = codes


def _constants(graph: ir.Graph, name: str, params: QParams, taken: set[str]) -> list[ir.Value]:
    scale, zero_point = np.asarray(params.scale, np.float32), np.asarray(params.zero_point)
    return [
        constant(graph, f"{name}_interface_scale", scale, taken),
        constant(graph, f"{name}_interface_zero_point", zero_point, taken),
    ]
