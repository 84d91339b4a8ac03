"""Calibrate: run the float model over samples, keep fixed-size statistics, and give every value of a plan its range.

The samples stream through one session, a sample at a time; what is kept of each is its statistics. Memory is that of
one inference plus the observers, whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsedge.data import Batch
from dsedge.errors import LoadError
from dsedge.quant.contract import Contract
from dsedge.quant.observers import Method, Observer
from dsedge.quant.plan import NodePlan, QParams, QuantPlan, ValuePlan
from dsedge.quant.qparams import activation_qparams, weight_qparams


def calibrate(
    model: ir.Model,
    values: Collection[str],
    batches: Iterable[Batch],
    method: Method,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, Observer], int]:
    """Observe values of a float model over samples.

    Args:
        model: the normalized float model.
        values: names of the activations to observe.
        batches: samples, streamed once.
        method: "minmax" keeps no histogram.
        progress: called with the number of samples done.

    Returns:
        Value name -> its observer, and the number of samples.

    Raises:
        LoadError: DS123 when there are no samples, DS128 when an activation is not finite.
    """
    from dsedge.session import open_session

    observers = {name: Observer(histogram=method != "minmax") for name in values}
    inputs = {v.name: v for v in model.graph.inputs}
    computed = [name for name in values if name not in inputs]
    session = open_session(exposing(model, computed))
    samples = 0
    for batch in batches:
        results = session.run(computed, batch.feeds) if computed else []
        for name, array in zip(computed, results, strict=True):
            _observe(observers[name], name, array, samples)
        del results
        for name in observers.keys() & inputs.keys():
            _observe(observers[name], name, batch.feeds[name], samples)
        samples += batch.count
        if progress:
            progress(samples)
    if samples == 0:
        raise LoadError("DS123", "the calibration data holds no samples", hint="give at least one; 32 to 128 are usual")
    return observers, samples


def _observe(observer: Observer, name: str, array: np.ndarray, sample: int) -> None:
    try:
        observer.update(array)
    except ValueError as error:
        raise LoadError(
            "DS128",
            f"the value {name!r} holds NaN or Inf for calibration sample {sample}",
            because="the float model overflows or divides by zero on this sample",
            hint="look at the sample, or leave it out",
        ) from error


def exposing(model: ir.Model, values: Collection[str]) -> ir.Model:
    """A copy of the model with the values among its outputs."""
    model = model.clone()
    have = {v.name for v in model.graph.outputs}
    wanted = set(values) - have
    for node in model.graph:
        model.graph.outputs.extend(out for out in node.outputs if out.name in wanted)
    return model


def assign_ranges(
    plan: QuantPlan,
    graph: ir.Graph,
    contract: Contract,
    observers: Mapping[str, Observer],
    method: Method,
) -> QuantPlan:
    """Give every value of a plan its range, scale and zero point.

    Args:
        plan: from `annotate`.
        graph: the graph that it was made for; constants among the values are read from it.
        contract: gives the number format.
        observers: statistics by value name.
        method: how a range is chosen from them; outputs of the graph keep all that was seen.

    Returns:
        The plan with ranges, and with the parameters of weights. Values of one tie group share the range of their
        merged statistics, and have their zero point in the middle of the codes where one of them has to.
    """
    low, high = contract.activation.limits
    outputs = {value.name for value in graph.outputs}
    params: dict[str, tuple[tuple[float, float], QParams]] = {}
    for group, names in plan.groups().items():
        merged = Observer(histogram=method != "minmax")
        fixed = plan.values[names[0]].fixed
        for name in names:
            constant = graph.initializers.get(name)
            if constant is not None and constant.const_value is not None:
                exact = Observer(histogram=method != "minmax")
                exact.update(constant.const_value.numpy())
                merged.merge(exact)
            else:
                merged.merge(observers[name])
        if fixed is not None:
            scale, zero_point = fixed
            qparams = QParams(
                np.array(scale, np.float32), np.array(zero_point, contract.activation.dtype), contract.activation.dtype
            )
            params[group] = ((low - zero_point) * scale, (high - zero_point) * scale), qparams
        else:
            whole = not outputs.isdisjoint(names)  # what is clipped there, nothing behind makes good
            chosen = merged.range("minmax" if whole else method, high - low + 1)
            symmetric = contract.activation.symmetric or any(plan.values[name].symmetric for name in names)
            params[group] = chosen, activation_qparams(*chosen, replace(contract.activation, symmetric=symmetric))
    values = {name: replace(v, range=params[v.group][0], qparams=params[v.group][1]) for name, v in plan.values.items()}
    plan = replace(plan, values=values)
    nodes = {node.name: _with_weights(node, plan.nodes[node.name], values, contract) for node in graph if node.name}
    return replace(plan, nodes=nodes)


def _with_weights(node: ir.Node, plan: NodePlan, values: Mapping[str, ValuePlan], contract: Contract) -> NodePlan:
    """The node's plan with the parameters of its weights, whose scales leave room for the bias in 32 bits."""
    bias, input_scale = None, None
    if plan.bias is not None and contract.bias == "int32":
        qparams = values[plan.reads[0]].qparams
        bias, input_scale = constant(node, plan.bias), None if qparams is None else float(qparams.scale)
    weights = {
        i: weight_qparams(constant(node, i), plan.axis, contract.weight, bias=bias, input_scale=input_scale)
        for i in plan.weights
        if plan.precision in ("int8", "int8_dynamic")
    }
    return replace(plan, weight_qparams=weights) if weights else plan


def constant(node: ir.Node, index: int) -> np.ndarray:
    """The constant that a node reads as its input `index`."""
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()
