"""Einsum of two operands that is a matrix product: FULLY_CONNECTED or BATCH_MATMUL between renamed axes."""

from __future__ import annotations

import math
from typing import NamedTuple

import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Placed
from dsedge.backends.litert.ops.linear import (
    asymmetric,
    batch_matmul,
    fully_connected,
    matrix_weight,
    viewed,
)
from dsedge.backends.litert.writer import input_of


class _Product(NamedTuple):
    """An equation, its indices by what they are for the product; `terms` are those of the operands and the result."""

    terms: tuple[str, str, str]
    batch: str
    rows: str
    summed: str
    columns: str

    @property
    def linear(self) -> bool:
        """Whether a constant second operand is the weight of a linear layer."""
        return not self.batch and len(self.summed) == len(self.columns) == 1


def einsum(e: Emitter, node: ir.Node) -> None:
    """Einsum of two operands."""
    p = _read(node)
    sizes: dict[str, int] = {}
    for index, term in enumerate(p.terms[:2]):
        sizes |= dict(zip(term, e.shape(input_of(node, index)), strict=True))
    order = tuple(p.terms[2].index(label) for label in p.batch + p.rows + p.columns)
    if p.linear and constant_of(input_of(node, 1)) is not None:
        x = e.tensor(node, 0, tuple(p.terms[0].index(label) for label in p.rows + p.summed))
        weight = matrix_weight(e, node, lambda w: w.T if p.terms[1][0] == p.summed else w, p.terms[1].index(p.columns))
        out = e.output(node, order)
        rows = x if p.rows else viewed(e, x, (1, *x.shape))
        product = out if p.rows else e.temporary("product", (1, *out.shape), out)
        fully_connected(e, rows, weight, e.bias(node, 2, x, weight, out.shape[-1]), product, 0)
    else:
        batch = tuple(sizes[label] for label in p.batch)
        left = _matrices(e, node, 0, p.terms[0], (p.batch, p.rows, p.summed), sizes)
        right = _matrices(e, node, 1, p.terms[1], (p.batch, p.summed, p.columns), sizes)
        out = e.output(node, order)
        whole = (*batch, _size(p.rows, sizes), _size(p.columns, sizes))
        product = out if whole == out.shape else e.temporary("product", whole, out)
        batch_matmul(e, left, right, product)
    if product is not out:
        e.reshape(product, out)


def _matrices(
    e: Emitter, node: ir.Node, index: int, term: str, groups: tuple[str, str, str], sizes: dict[str, int]
) -> Placed:
    """An operand as matrices behind the axes of a batch."""
    labels = "".join(groups)
    placed = e.placed(node, index)
    renamed = Placed(placed.tensor, tuple(labels.index(term[axis]) for axis in placed.order))
    if len(groups[1]) == len(groups[2]) == 1:
        return renamed
    batch = tuple(sizes[label] for label in groups[0])
    tensor = e.permuted(renamed, tuple(range(len(labels))))
    matrices = viewed(e, tensor, (*batch, _size(groups[1], sizes), _size(groups[2], sizes)))
    return Placed(matrices, tuple(range(len(matrices.shape))))


def _size(labels: str, sizes: dict[str, int]) -> int:
    return math.prod(sizes[label] for label in labels)


def _read(node: ir.Node) -> _Product:
    """The equation of a node.

    Raises:
        CannotEmit: when it is no matrix product.
    """
    equation = node.attributes.get_string("equation", "").replace(" ", "")
    operands, arrow, result = equation.partition("->")
    terms = operands.split(",")
    if "." in equation:
        raise CannotEmit(f"{equation!r} has an ellipsis")
    if len(terms) != 2:
        raise CannotEmit(f"{equation!r} is no product of two operands")
    a, b = terms
    if any(len(set(term)) < len(term) for term in (a, b, result)):
        raise CannotEmit(f"in {equation!r} an index stands twice in one term")
    if not arrow:
        result = "".join(sorted(label for label in set(a + b) if (a + b).count(label) == 1))
    if any(label not in result for label in set(a) ^ set(b)):
        raise CannotEmit(f"in {equation!r} an index is summed that only one operand has")
    both = [label for label in a if label in b]
    batch, summed = ("".join(label for label in both if (label in result) == kept) for kept in (True, False))
    rows, columns = ("".join(label for label in term if label not in both) for term in (a, b))
    return _Product((a, b, result), batch, rows, summed, columns)


def _in_float(node: ir.Node) -> str | None:
    """Why an Einsum has no INT8 kernel."""
    try:
        p = _read(node)
    except CannotEmit as reason:
        return str(reason)
    for index in (0, 1):
        found = constant_of(input_of(node, index))
        if found is None or found[1] is None:
            continue
        if index == 1 and p.linear:
            return asymmetric(found[1], p.terms[1].index(p.columns))
        if found[1].axis is not None:
            return "BATCH_MATMUL takes one scale for a whole value"
    return None


OPS = {"Einsum": Op(einsum, codes=(0, 1), refuses=_in_float)}
