"""How passes recognize the arithmetic that exporters write out for one operator, and swap it for the operator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.model import Dim, dims
from dsedge.passes.edit import array, is_constant

_TOLERANCE = 5e-4  # constants such as sqrt(2) are often rounded to half precision


def close(number: float | None, expected: float) -> bool:
    """Whether a constant of a file is meant to be `expected`."""
    return number is not None and math.isclose(number, expected, rel_tol=_TOLERANCE)


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant of one element, else None."""
    if not is_constant(value) or value.dtype is None or not value.dtype.is_floating_point():
        return None
    data = array(value)
    return float(data.reshape(-1)[0]) if data.size == 1 else None


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, when it is one of these operators of the default domain."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in op_types else None


def only_user(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The one node that reads a value which nobody else sees, when it is one of these operators."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    node, maker = next(iter(uses)).node, value.producer()
    if node.domain != "" or node.op_type not in op_types or (maker is not None and maker.graph is not node.graph):
        return None
    return node


def other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Of the two operands of a node the one that is not `value`."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def operands(node: ir.Node | None) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The two operands of a node, in both orders."""
    if node is not None and len(node.inputs) == 2:
        a, b = node.inputs
        if a is not None and b is not None:
            yield a, b
            yield b, a


def plus_scalar(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """x and c of a value x + c or x - c, c being one constant number."""
    for x, c in operands(made_by(value, "Add")):
        number = scalar(c)
        if number is not None:
            return x, number
    node = made_by(value, "Sub")
    if node is not None and node.inputs[0] is not None and (number := scalar(node.inputs[1])) is not None:
        return node.inputs[0], -number
    return None


def scaled(value: ir.Value) -> tuple[ir.Value, float]:
    """x and c of a value x * c or x / c, c being one constant number; the value itself and 1 for any other."""
    for x, c in operands(made_by(value, "Mul")):
        number = scalar(c)
        if number is not None:
            return x, number
    node = made_by(value, "Div")
    if node is not None and node.inputs[0] is not None and (number := scalar(node.inputs[1])):
        return node.inputs[0], 1 / number
    return value, 1.0


@dataclass(frozen=True)
class Product:
    """The value coefficient * x ** power * v, made by `node`."""

    node: ir.Node
    coefficient: float
    power: int


def products(value: ir.Value, x: ir.Value) -> Iterator[Product]:
    """What a value v is multiplied to, by x and by numbers in any order, as long as nothing else reads it between."""
    coefficient, power = 1.0, 0
    while (node := only_user(value, "Mul", "Div")) is not None:
        factor = other(node, value)
        if factor is None or (node.op_type == "Div" and node.inputs[0] is not value):
            return
        number = scalar(factor)
        if number is None:
            source, number = scaled(factor)
            if source is not x or node.op_type == "Div":
                return
            power += 1
        coefficient = coefficient * number if node.op_type == "Mul" else coefficient / number if number else math.nan
        yield Product(node, coefficient, power)
        value = node.outputs[0]


def polynomial(value: ir.Value | None, x: ir.Value, depth: int = 8) -> np.poly1d | None:
    """The value as a polynomial of x, when it is one written out in sums, products and powers up to the third."""
    if value is None or depth == 0:
        return None
    if value is x:
        return np.poly1d([1.0, 0.0])
    number = scalar(value)
    if number is not None:
        return np.poly1d([number])
    node = made_by(value, "Add", "Sub", "Mul", "Div", "Pow")
    if node is None:
        return None
    a, b = (polynomial(operand, x, depth - 1) for operand in node.inputs)
    if a is None or b is None:
        return None
    match node.op_type:
        case "Add":
            return np.poly1d(a + b)
        case "Sub":
            return np.poly1d(a - b)
        case "Mul":
            return np.poly1d(a * b) if a.order + b.order <= 3 else None
        case "Div":
            return np.poly1d(a / float(b[0])) if b.order == 0 and b[0] else None
    return np.poly1d(a ** int(b[0])) if a.order <= 1 and b.order == 0 and b[0] in (1, 2, 3) else None


def fits(node: ir.Node, x: ir.Value) -> bool:
    """Whether a node makes a float32 value of the rank of x: a number of a higher rank would have broadcast x."""
    shape, result = dims(x), dims(node.outputs[0])
    return x.dtype == ir.DataType.FLOAT and shape is not None and result is not None and len(shape) == len(result)


def same_but_one(a: tuple[Dim, ...] | None, b: tuple[Dim, ...]) -> bool:
    """Whether two shapes of the same elements are equal: of one open axis the length follows from the others."""
    if a is None or len(a) != len(b) or 0 in a:
        return False
    unequal = [x for x, y in zip(a, b, strict=True) if not isinstance(x, int) or x != y]
    return len(unequal) <= 1 and not any(isinstance(x, int) for x in unequal)


def replace(
    node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
) -> ir.Node:
    """Puts a new node into the place of one with one output, under its name, and removes what nothing reads then."""
    old, graph = node.outputs[0], node.graph
    assert graph is not None
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    new = ir.node(op_type, inputs, attributes or {}, outputs=[output], name=node.name)
    graph.insert_before(node, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    remove_unread(node)
    return new


def remove_unread(*unread: ir.Node) -> None:
    """Removes nodes that nothing reads, and those before them that then nothing reads."""
    stack = list(unread)
    while stack:
        node = stack.pop()
        if node.graph is None or any(output.uses() or output.is_graph_output() for output in node.outputs):
            continue
        stack += [maker for value in node.inputs if value is not None and (maker := value.producer()) is not None]
        node.graph.remove(node, safe=True)
