"""Rounding: weights of linear layers rounded for what they are multiplied with.

The weights of INT4 layers get their parameters here, and where there are samples, INT4 and INT8 layers get better codes
than the nearest ones: `dsedge.quant.error_feedback`.

A few samples say little about the products of many channels. So those are shrunk towards their diagonal, by
K / (K + rows) for K channels: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices"
(2004), with that fixed weight.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsedge.data import Batch
from dsedge.model import static_shape
from dsedge.quant.blocks import Floats, block_qparams
from dsedge.quant.calibrate import constant, exposing
from dsedge.quant.contract import Contract
from dsedge.quant.error_feedback import round_on_grid, round_with_feedback
from dsedge.quant.plan import QParams, QuantPlan

_MOST_CHANNELS = 2048
"""INT8 layers of more channels are rounded to the nearest: the products would take more memory than the gain is worth.
INT4 has no choice."""

Rounded = tuple[Floats | None, QParams]
"""A weight whose numbers lie on their grid, None for the weight as it is; and the grid."""


def channel_products(model: ir.Model, plan: QuantPlan, samples: Iterable[Batch]) -> dict[str, Floats]:
    """The mean products of the channels that INT4 and INT8 linear layers read, shrunk towards the diagonal.

    Args:
        model: the normalized float model.
        plan: from `annotate_as_asked`.
        samples: a few calibration samples.

    Returns:
        Name of a value -> float32 [features, features], the last axis of the value being that of features. Values of
        INT8 layers are left out where the samples have fewer rows than half their features: feedback would fit noise.
    """
    from dsedge.session import open_session

    samples = list(samples)
    values = _read_by_linear_layers(model.graph, plan, len(samples))
    if not values:
        return {}
    inputs = {v.name for v in model.graph.inputs}
    computed = [name for name in values if name not in inputs]
    session = open_session(exposing(model, computed)) if computed else None
    sums: dict[str, Floats] = {}
    rows = dict.fromkeys(values, 0)
    for sample in samples:
        arrays = dict(zip(computed, session.run(computed, sample.feeds), strict=True)) if session else {}
        for name in values:
            array = arrays[name] if name in arrays else sample.feeds[name]
            matrix = array.reshape(-1, array.shape[-1])
            sums[name] = sums.get(name, np.float32(0)) + matrix.T @ matrix
            rows[name] += len(matrix)
    enough = [name for name, total in sums.items() if values[name] == "int4" or 2 * rows[name] >= len(total)]
    return {name: _shrunk(sums[name], rows[name]) for name in enough}


def _read_by_linear_layers(graph: ir.Graph, plan: QuantPlan, samples: int) -> dict[str, str]:
    """The values whose products are wanted, in sorted order, with the precision of the layers that read them."""
    found: dict[str, str] = {}
    for node in graph:
        value, precision = _linear_input(node, plan), plan.nodes[node.name or ""].precision
        if value is None or value.name is None:
            continue
        if precision == "int8":
            shape, channels = static_shape(value), _channels(node)
            too_few = shape is not None and 2 * math.prod(shape[:-1]) * samples < channels
            if channels > _MOST_CHANNELS or too_few:
                continue
        if found.get(value.name) != "int4":
            found[value.name] = precision
    return dict(sorted(found.items()))


def _channels(node: ir.Node) -> int:
    weight = constant(node, 1)
    return int(weight.shape[1 if node.attributes.get_int("transB", 0) else 0])


def _shrunk(total: Floats, rows: int) -> Floats:
    products, share = total / np.float32(max(rows, 1)), np.float32(rows / (rows + len(total)))
    return (products * share + np.diag(np.diag(products) * (1 - share))).astype(np.float32)


def round_weights(
    model: ir.Model,
    plan: QuantPlan,
    contract: Contract,
    known: MutableMapping[str, Rounded],
    products: Mapping[str, Floats],
) -> tuple[QuantPlan, ir.Model]:
    """Give every INT4 weight of a plan its parameters, and round what can be rounded with error feedback.

    Args:
        model: the normalized float model; left as it is.
        plan: with ranges assigned.
        contract: gives the formats.
        known: what was found before, by weight; what is missing is added, because a plan is made again for every try.
        products: from `channel_products`. The weight of a layer whose input is in it is rounded with error feedback,
            any other to the nearest.

    Returns:
        The plan with the parameters of INT4 weights, and the model: a copy when a weight was rounded with feedback.
    """
    nodes = dict(plan.nodes)
    changed: dict[str, Floats] = {}
    for node in model.graph:
        node_plan, value = nodes[node.name or ""], _linear_input(node, plan)
        if node_plan.precision != "int4" and value is None:
            continue
        (index,) = node_plan.weights
        own = products.get(value.name or "") if value is not None else None
        fixed = node_plan.weight_qparams.get(index)
        if fixed is not None and own is None:
            continue
        assert node_plan.axis is not None, "linear layers have an axis of channels or of blocks"
        grid = "" if fixed is None else hashlib.sha256(fixed.scale.tobytes()).hexdigest()
        key = f"{node.inputs[index].name} {node_plan.axis} {grid}"  # type: ignore[union-attr]
        if key not in known:
            known[key] = _rounded(constant(node, index), node_plan.axis, contract, own, fixed)
        on_grid, params = known[key]
        nodes[node_plan.name] = replace(node_plan, weight_qparams={index: params})
        if on_grid is not None:
            changed[node_plan.name] = on_grid
    return replace(plan, nodes=nodes), _with_weights(model, changed) if changed else model


def _rounded(weight: Floats, axis: int, contract: Contract, products: Floats | None, fixed: QParams | None) -> Rounded:
    """One weight; `fixed` is the grid of INT8, with a scale a column, where `axis` counts columns and not rows."""
    if fixed is not None:
        assert products is not None
        return round_on_grid(weight, 1 - axis, contract.weight, products, fixed) or (None, fixed)
    assert contract.block is not None, "a node is INT4 only where the contract has blocks"
    found = None if products is None else round_with_feedback(weight, axis, contract.block, products)
    return found or (None, block_qparams(weight, axis, contract.block))


def _with_weights(model: ir.Model, weights: Mapping[str, Floats]) -> ir.Model:
    """A copy in which the nodes read other weights; those that shared one share it still."""
    model = model.clone()
    graph = model.graph
    made: dict[str, ir.Value] = {}
    taken = {v.name for node in graph for v in (*node.inputs, *node.outputs) if v is not None} | set(graph.initializers)
    for node in graph:
        old = node.inputs[1] if node.name in weights else None
        if old is None or old.name is None:
            continue
        if old.name not in made:
            name = f"{old.name}_rounded"
            while name in taken:
                name += "_"
            taken.add(name)
            value = ir.val(name, const_value=ir.tensor(weights[node.name or ""], name=name))
            graph.register_initializer(value)
            made[old.name] = value
        node.replace_input_with(1, made[old.name])
    for name in [n for n, v in graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        graph.initializers.pop(name)
    return model


def _linear_input(node: ir.Node, plan: QuantPlan) -> ir.Value | None:
    """What an INT4 or INT8 linear layer multiplies with its weight; None for tables and all other nodes."""
    node_plan = plan.nodes[node.name or ""]
    linear = node.op_type in ("MatMul", "Gemm") and node_plan.weights == (1,) and node_plan.axis is not None
    return node.inputs[0] if linear and node_plan.precision in ("int4", "int8") else None
