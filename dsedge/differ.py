"""Differ: the operator from which on a runtime's float artifact computes something else than the graph."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import Backend
from dsedge.bench.runner import difference
from dsedge.data import Feeds
from dsedge.errors import DsedgeError
from dsedge.verify import open_artifact, predictor

_RELATIVE = 1e-3


def first_difference(model: ir.Model, backend: Backend, feeds: Feeds) -> str:
    """Name the first node whose result differs, where all that it reads agrees.

    The graph is built once more, with the result of every node as an output. That parts operators which the runtime
    fuses otherwise, so a difference may be gone.

    Args:
        model: normalized, float, sorted; left as it is.
        backend: of the runtime.
        feeds: one sample.

    Returns:
        A sentence about the node and how far apart its inputs are; "" when none is found.
    """
    watched = model.clone()
    values = [out for node in watched.graph for out in node.outputs if out.dtype == ir.DataType.FLOAT]
    watched.graph.outputs[:] = values
    try:
        with tempfile.TemporaryDirectory() as folder:
            mine = open_artifact(backend, backend.build(watched, Path(folder)).main)(feeds)
        reference = predictor(watched, optimize=False)(feeds)
    except (DsedgeError, RuntimeError, ValueError):  # what failed before is what is to be told
        return ""
    found = {v.name: (a, b) for v, a, b in zip(values, reference, mine, strict=True)}
    for value in values:
        node = value.producer()
        if node is None or _apart(*found[value.name]) <= _RELATIVE * _size(found[value.name][0]):
            continue
        read = [found[v.name] for v in node.inputs if v is not None and v.name in found]
        if not read:
            return f"its {node.op_type} {node.name!r} differs"
        a, b = max(read, key=lambda pair: _apart(*pair))
        agrees = f"what that reads is up to {_size(a):.3g}, of which {_apart(a, b):.2g} differs"
        return f"its {node.op_type} {node.name!r} differs; {agrees}"
    return ""


def _apart(reference: np.ndarray, other: np.ndarray) -> float:
    return float(np.max(difference(reference, other)[1], initial=0.0))


def _size(array: np.ndarray) -> float:
    return float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0))
