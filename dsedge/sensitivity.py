"""Sensitivity: how much each INT8 node costs, measured by what its return to float gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.data import Batch
from dsedge.verify import predictor, run_all, sqnr_by_output


def rank(
    nodes: Sequence[str],
    without: Callable[[str], ir.Model],
    model: ir.Model,
    samples: Sequence[Batch],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The nodes, the one whose return to float gains the most first.

    Args:
        nodes: names of INT8 nodes.
        without: makes the Q/DQ graph in which one node is float and all others are as they are.
        model: the float model.
        samples: a few calibration samples.
        progress: called with how many nodes are done, and how many there are.

    Returns:
        The names, ordered by the SQNR of the worst output.
    """
    reference = run_all(predictor(model), samples)
    gained: dict[str, float] = {}
    for done, name in enumerate(nodes):
        ratios = sqnr_by_output(reference, run_all(predictor(without(name)), samples))
        gained[name] = min((ratio for ratio in ratios if ratio is not None), default=np.inf)
        if progress:
            progress(done + 1, len(nodes))
    return sorted(nodes, key=gained.__getitem__, reverse=True)
