"""Steps of the flow as tests need them: samples for any model, a quantized graph, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import load_backend
from dsedge.bench.measure import Contender
from dsedge.bench.runner import sqnr
from dsedge.bundle import Latency
from dsedge.data import Batch
from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.quant.observers import Method
from dsedge.quant.plan import QuantPlan
from dsedge.session import open_session
from dsedge.target import load_target

VARIANTS = {"x86-vnni": "pos-x86", "x86": "pos-x86-celeron", "arm-dotprod": "raspberry-pi-5", "arm": "raspberry-pi-4"}
"""Variant of ONNX Runtime's contract -> a board that has it."""


def contract(variant: str = "x86-vnni") -> Contract:
    return load_backend("onnxruntime").contract(load_target(VARIANTS[variant]))


def samples(model: Model, count: int = 8, seed: int = 0) -> list[Batch]:
    """Seeded noise; a symbolic axis gets the length 1, a time axis 5."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        feeds = {}
        for spec in model.inputs:
            shape = [d if isinstance(d, int) else 5 if d == "T" else 1 for d in spec.shape or ()]
            feeds[spec.name] = rng.standard_normal(shape).astype(np.float32)
        made.append(Batch(feeds, 1, None))
    return made


@dataclass(frozen=True)
class Quantized:
    source: Model
    graph: ir.Model
    plan: QuantPlan
    model: ir.Model

    def precision(self, node: str) -> str:
        return self.plan.nodes[node].precision

    def reason(self, node: str) -> str:
        return self.plan.nodes[node].reason


def quantized(
    source: Model,
    accepts: Contract | None = None,
    *,
    method: Method = "minmax",
    lifted: Mapping[str, str] | None = None,
    batches: Sequence[Batch] | None = None,
    normal: bool = True,
) -> Quantized:
    """Through annotate, calibrate and insert; `normal=False` infers shapes only, so that every node stays."""
    accepts = accepts or contract()
    graph = normalize(source)[0].graph if normal else source.graph.clone()
    if not normal:
        discover()["infer-shapes"]()(graph)
    plan = annotate(graph.graph, accepts, lifted=lifted)
    wanted = [name for name in plan.values if name not in graph.graph.initializers]
    observers, _ = calibrate(graph, wanted, batches or samples(source), method)
    plan = assign_ranges(plan, graph.graph, accepts, observers, method)
    return Quantized(source, graph, plan, insert(graph, plan, accepts))


def stopwatch(times: Mapping[str, float]) -> Callable[[Sequence[Contender], int], list[Latency]]:
    """A race that a test decides: "runtime precision" -> milliseconds, 9 for what is not named."""

    def rows(contenders: Sequence[Contender], threads: int) -> list[Latency]:
        return [
            Latency(
                runtime=c.runtime,
                precision=c.precision,
                median_ms=times.get(f"{c.runtime.split()[0]} {c.precision}", 9.0),
                p90_ms=9.5,
                iqr_ms=0.1,
                runs=20,
                threads=threads,
                where="a test",
                conditions={},
            )
            for c in contenders
        ]

    return rows


def run(model: ir.Model, batches: Sequence[Batch], *, optimize: bool = True) -> list[np.ndarray]:
    """Each output over all samples, raveled and joined."""
    session = open_session(model, optimize=optimize, threads=1)
    results = [session.run(None, batch.feeds) for batch in batches]
    return [np.concatenate([np.ravel(a) for a in column]) for column in zip(*results, strict=True)]


def worst_sqnr(reference: ir.Model, other: ir.Model, batches: Sequence[Batch], *, optimize: bool = True) -> float:
    pairs = zip(run(reference, batches, optimize=False), run(other, batches, optimize=optimize), strict=True)
    return min((r for a, b in pairs if (r := sqnr(a, b)) is not None), default=np.inf)


def executed(artifact: Path, folder: Path) -> ir.Graph:
    """The graph that ONNX Runtime makes of an artifact on this machine."""
    open_session(artifact, threads=1, save_optimized=folder / "optimized.onnx")
    return ir.load(folder / "optimized.onnx").graph


def producers(model: ir.Model, op_type: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op_type]
