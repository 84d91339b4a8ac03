"""Sensitivity: how much accuracy each INT8 node costs, measured by quantizing it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.bench.runner import sqnr
from dsedge.data import Batch
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.quant.observers import Method, Observer
from dsedge.quant.plan import QuantPlan
from dsedge.session import open_session


def rank(
    model: ir.Model,
    plan: QuantPlan,
    contract: Contract,
    observers: Mapping[str, Observer],
    method: Method,
    samples: Sequence[Batch],
    reference: Sequence[Sequence[np.ndarray]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The nodes that carry weights, the one that costs the most first.

    Args:
        model: the normalized float model.
        plan: what is quantized now.
        contract: of the runtime.
        observers: statistics of the plan's values.
        method: how ranges are chosen.
        samples: a few real samples.
        reference: the float model's outputs for them.
        progress: called with how many nodes are done, and how many there are.

    Returns:
        Node names in the order of the output error that each causes when it alone is INT8.
    """
    heavy = [n.name for n in plan.nodes.values() if n.weights]
    errors: dict[str, float] = {}
    for done, name in enumerate(heavy):
        others = {n: "measured without it" for n in heavy if n != name}
        alone = annotate(model.graph, contract, lifted=others)
        alone = assign_ranges(alone, model.graph, contract, observers, method)
        session = open_session(insert(model, alone, contract))
        got = [session.run(None, s.feeds) for s in samples]
        errors[name] = _worst_db(reference, got)
        if progress:
            progress(done + 1, len(heavy))
    return sorted(heavy, key=errors.__getitem__)


def _worst_db(reference: Sequence[Sequence[np.ndarray]], got: Sequence[Sequence[np.ndarray]]) -> float:
    ratios = [
        sqnr(np.concatenate([r[i].ravel() for r in reference]), np.concatenate([g[i].ravel() for g in got]))
        for i in range(len(reference[0]))
        if reference[0][i].dtype.kind == "f"
    ]
    return min((r for r in ratios if r is not None), default=np.inf)
