"""Smooth: move outlier channels of activations into the weights of the linear layers that read them.

A transformer's hidden state has a few channels that exceed the others many times over. One scale for all channels
leaves few codes to the rest. Dividing each channel by a factor s and multiplying the weight's row by it changes nothing
in float and evens the channels out: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for
Large Language Models" (ICML 2023), equation 4: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha).

The paper takes one alpha for all layers. Here each site is tried with several on rows of real activations, and the one
with the least error of the layers' outputs is taken; a site that gains too little is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsedge.data import Batch
from dsedge.quant.calibrate import exposing
from dsedge.quant.contract import Contract
from dsedge.quant.plan import QuantPlan
from dsedge.quant.qparams import activation_qparams, quantize, weight_qparams

ALPHAS = (0.5, 0.65, 0.75, 0.85)
LEAST_GAIN_DB = 3.0
"""Less is not worth the multiplication that a site may cost at run time."""
ROWS = 256
"""Rows of activations that the error is measured on, over all samples."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Site:
    """A value and the linear layers that read it through one quantizer.

    Attributes:
        value: its name; a matrix [rows, features].
        layers: names of the Gemm and MatMul nodes.
    """

    value: str
    layers: tuple[str, ...]


def sites(graph: ir.Graph, plan: QuantPlan) -> list[Site]:
    """The values that only INT8 linear layers with a constant weight read through a quantizer.

    Args:
        graph: normalized.
        plan: for it.
    """
    readers: dict[str, list[str]] = {}
    for node in plan.nodes.values():
        for name in node.reads if node.precision == "int8" else ():
            readers.setdefault(name, []).append(node.name)
    written = {n.result for n in plan.nodes.values() if n.precision == "int8" and n.output}
    nodes = {node.name or "": node for node in graph}
    found = []
    for name, layers in readers.items():
        linear = all(nodes[n].op_type in ("Gemm", "MatMul") and plan.nodes[n].weights == (1,) for n in layers)
        if linear and name not in written and _value(nodes[layers[0]]).const_value is None:
            found.append(Site(name, tuple(layers)))
    return found


def smooth(
    model: ir.Model, plan: QuantPlan, contract: Contract, samples: Sequence[Batch]
) -> tuple[ir.Model, list[str]]:
    """A float model that computes the same, with outlier channels evened out where that helps.

    Args:
        model: normalized; left as it is.
        plan: says which layers are INT8, and by which values.
        contract: gives the formats.
        samples: a few calibration samples.

    Returns:
        The model itself when no site gains, else a copy; and a note for each site that was smoothed. Factors go into
        the scale and offset of a LayerNormalization that nothing else reads, else into a Mul.
    """
    found = sites(model.graph, plan)
    if not found:
        return model, []
    observed = _observe(model, [site.value for site in found], samples)
    nodes = {node.name or "": node for node in model.graph}
    chosen: list[tuple[Site, Array, float]] = []
    for site in found:
        rows, greatest = observed[site.value]
        weights = [_weight(nodes[name]) for name in site.layers]
        if rows.ndim == 2 and rows.size and all(len(w) == rows.shape[1] for w in weights):
            factors, gain = _best(rows, greatest, weights, contract)
            if gain >= LEAST_GAIN_DB:
                chosen.append((site, factors, gain))
    if not chosen:
        return model, []
    model = model.clone()
    nodes = {node.name or "": node for node in model.graph}
    notes = []
    for site, factors, gain in chosen:
        where = _apply(model.graph, [nodes[name] for name in site.layers], factors)
        notes.append(
            f"{site.value}: channels evened out by {where}, {gain:.1f} dB better behind {', '.join(site.layers)}"
        )
    return model, notes


def _observe(model: ir.Model, values: Sequence[str], samples: Sequence[Batch]) -> dict[str, tuple[Array, Array]]:
    """For each value some of its rows, and the greatest magnitude of each channel over all rows."""
    from dsedge.session import open_session

    computed = [name for name in values if name not in {v.name for v in model.graph.inputs}]
    session = open_session(exposing(model, computed))
    rng = np.random.default_rng(0)
    rows: dict[str, list[Array]] = {name: [] for name in values}
    greatest: dict[str, Array] = {}
    share = max(1, ROWS // max(len(samples), 1))
    for sample in samples:
        results = dict(zip(computed, session.run(computed, sample.feeds), strict=True)) if computed else {}
        for name in values:
            array = results[name] if name in results else sample.feeds[name]
            matrix = array.reshape(-1, array.shape[-1])
            high = np.abs(matrix).max(axis=0, initial=0)
            greatest[name] = np.maximum(greatest[name], high) if name in greatest else high
            rows[name].append(matrix[rng.permutation(len(matrix))[:share]])
    return {name: (np.concatenate(rows[name]), greatest[name]) for name in values}


def _best(rows: Array, greatest: Array, weights: list[Array], contract: Contract) -> tuple[Array, float]:
    """The best factors [features] of one site, and how many dB the outputs' error falls."""
    weight = np.concatenate(weights, axis=1)
    exact = rows @ weight
    strongest = np.abs(weight).max(axis=1)
    before = _error(rows, weight, exact, contract)
    best, least = np.ones_like(greatest), before
    for alpha in ALPHAS:
        usable = (greatest > 0) & (strongest > 0)
        ratio = np.maximum(greatest, 1e-5) ** alpha / np.maximum(strongest, 1e-5) ** (1 - alpha)
        factors: Array = np.where(usable, ratio / np.median(ratio), 1).astype(np.float32)
        error = _error(rows / factors, weight * factors[:, None], exact, contract)
        if error < least:
            best, least = factors, error
    return best, float(10 * np.log10(max(before, 1e-30) / max(least, 1e-30)))


def _error(rows: Array, weight: Array, exact: Array, contract: Contract) -> float:
    """Squared error of the product when both sides are rounded to their formats."""
    params = activation_qparams(float(rows.min()), float(rows.max()), contract.activation)
    codes = quantize(rows, params, contract.activation).astype(np.float32) - float(params.zero_point)
    per_column = weight_qparams(weight, 1, contract.weight)
    product = codes @ quantize(weight, per_column, contract.weight).astype(np.float32)
    error = product * (float(params.scale) * per_column.scale) - exact
    return float(np.mean(np.square(error, dtype=np.float64)))


def _apply(graph: ir.Graph, layers: list[ir.Node], factors: Array) -> str:
    """Divide the layers' input by the factors and multiply their weights; says how."""
    value = _value(layers[0])
    for node in layers:
        old = node.inputs[1]
        assert old is not None and old.const_value is not None
        scaled = old.const_value.numpy() * (factors if _transposed(node) else factors[:, None])
        node.replace_input_with(1, _constant(graph, f"{old.name}_smoothed_{node.name}", scaled))
    norm = value.producer()
    alone = len(value.uses()) == len(layers) and not value.is_graph_output()
    if norm is not None and norm.op_type == "LayerNormalization" and alone:
        for index in range(1, len(norm.inputs)):
            parameter = norm.inputs[index]
            if parameter is None or parameter.const_value is None:
                continue
            divided = parameter.const_value.numpy() / factors
            norm.replace_input_with(index, _constant(graph, f"{parameter.name}_smoothed_{norm.name}", divided))
        return f"the parameters of {norm.name}"
    inverse = _constant(graph, f"{value.name}_smoothing", 1 / factors)
    mul = ir.node("Mul", [value, inverse], name=f"{value.name}_smoothed_Mul")
    result = mul.outputs[0]
    result.name, result.type, result.shape = f"{value.name}_smoothed", value.type, value.shape
    graph.insert_before(min(layers, key=graph.index), mul)
    for node in layers:
        node.replace_input_with(0, result)
    return f"{mul.name}"


def _constant(graph: ir.Graph, name: str, array: npt.NDArray[np.floating]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array.astype(np.float32), name=name))
    graph.register_initializer(value)
    return value


def _value(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _weight(node: ir.Node) -> Array:
    """The weight of a linear layer, [features, outputs]."""
    value = node.inputs[1]
    assert value is not None and value.const_value is not None
    array = value.const_value.numpy()
    return array.T if _transposed(node) else array


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
