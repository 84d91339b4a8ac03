"""Search: Q/DQ graphs and the artifacts made of them, tried until one passes the gates.

A try that the fusion audit or the accuracy gate rejects says which nodes are to blame. They go back to float, each with
the reason, and the next try begins at `annotate`. The number of tries is bounded. Nothing is timed here: latency is
measured when the candidates of all runtimes are there (`dsedge.race`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from dsedge import cache, gates
from dsedge.accuracy import Judge
from dsedge.backends.base import Backend
from dsedge.candidate import Baseline, Candidate, Tried, verified
from dsedge.data import Data
from dsedge.model import Model, graph_digest
from dsedge.quant.bias_correction import correct_biases
from dsedge.quant.blocks import Floats
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.quant.interface import IoDtype, tied_states, with_codes
from dsedge.quant.observers import BINNED, BINS, Method, Observer
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import Request, annotate_as_asked
from dsedge.quant.rounding import Rounded, channel_products, round_weights
from dsedge.quant.smooth import smooth
from dsedge.report.text import counted
from dsedge.sensitivity import Gain, worst
from dsedge.steps import Steps
from dsedge.strict import listed, require_int8
from dsedge.target import Target

DEFAULT_METHOD: Method = "mse"
TRIES = 6
FEW_SAMPLES, REFINE_SAMPLES, GAIN_SAMPLES = 32, 8, 4
AIM_LOWER = 0.05
"""Of the limit: another try costs more than a node in float."""
POOR_DB = 15.0
"""Below it, noise is a sixth of the signal: without evaluation data a bundle warns."""


@dataclass
class Observed:
    """What one pass over all samples or several have seen of the values of a graph, whatever runtime asked for them.

    Attributes:
        observers: value name -> its statistics.
        samples: how many samples they come from.
    """

    observers: dict[str, Observer] = field(default_factory=dict)
    samples: int = 0


@dataclass
class Statistics:
    """What calibration has seen so far.

    Attributes:
        graph: digest of the graph whose values they are.
        observers: value name -> its statistics.
        samples: how many samples they come from.
        rounded: weights that were rounded, see `round_weights`.
        products: of the channels that linear layers read, see `channel_products`; None before they were looked at.
    """

    graph: str
    observers: dict[str, Observer] = field(default_factory=dict)
    samples: int = 0
    rounded: dict[str, Rounded] = field(default_factory=dict)
    products: dict[str, Floats] | None = None


def search(
    model: Model,
    base: Baseline,
    backend: Backend,
    target: Target,
    data: Data,
    method: Method,
    judge: Judge | None,
    folder: Path,
    steps: Steps,
    request: Request,
    seen: dict[str, Observed],
    *,
    io_dtype: IoDtype = "float",
    strict: bool = False,
    floats: Mapping[str, str] | None = None,
) -> Tried:
    """The first candidate that passes the audit and the accuracy gate, or the last one that failed the gate.

    Args:
        model: normalized.
        base: the float artifact.
        backend: builds and audits.
        target: the board.
        data: calibration samples.
        method: how ranges are chosen.
        judge: judges accuracy.
        folder: of the workspace; artifacts go below it.
        steps: the record.
        request: which precision is asked for.
        seen: digest of a graph -> its statistics over all samples, which other runtimes may have asked for before; what
            is seen here is put into it.
        io_dtype: which type of inputs and outputs an INT8 artifact has.
        strict: refuse a plan in which an operator computes on real numbers.
        floats: node -> reason, for nodes that are float from the first try on.

    Raises:
        CheckError: DS202 when `strict` and an operator would compute on real numbers.
    """
    contract = backend.contract(target)
    inputs = model.graph.graph.inputs
    coded = [v.name or "" for v in inputs if io_dtype != "float" and v.dtype == ir.DataType.FLOAT]
    with steps("prepare"):
        if request.calibrates:
            model = model.with_graph(backend.prepare(model.graph))
    if not strict:  # the multiplication that smoothing puts in would be an operator in float
        with steps("smooth") as smooth_notes:
            smoothed, found_notes = smooth(
                model.graph,
                annotate_as_asked(model.graph.graph, contract, request, codes=coded),
                contract,
                data.head(REFINE_SAMPLES),
            )
            smooth_notes += found_notes
            model = model.with_graph(smoothed)
    graph = model.graph.graph
    lifted = dict(floats or {})
    statistics = Statistics(graph_digest(model.graph))
    notes: list[str] = []
    rejected: Candidate | None = None
    blamed: list[str] = []

    def annotated(lifted: Mapping[str, str]) -> QuantPlan:
        plan = annotate_as_asked(graph, contract, request, lifted=lifted, codes=coded)
        return plan.tied(tied_states(graph, model.states))

    def quantized(plan: QuantPlan) -> tuple[QuantPlan, ir.Model]:
        _observe(statistics, seen, model, plan, data, method, steps)
        plan = assign_ranges(plan, graph, contract, statistics.observers, method)
        plan, rounded = round_weights(model.graph, plan, contract, statistics.rounded, statistics.products or {})
        return plan, insert(correct_biases(rounded, plan, contract, statistics.observers), plan, contract)

    for attempt in range(TRIES):
        with steps("annotate"):
            plan = annotated(lifted)
            if strict:
                require_int8(plan)
        if not plan.quantized:
            break
        with steps("calibrate") as calibrate_notes:
            calibrate_notes += _observe(statistics, seen, model, plan, data, method, steps)
        with steps("quantize", changed=True):
            plan, qdq = quantized(plan)
        with steps("build"):
            where = folder / f"try{attempt}"
            where.mkdir()
            written, codes, said = with_codes(qdq, io_dtype, model.states)
            artifact = backend.build(written, where)
        with steps("audit"):
            audit = backend.audit(artifact, plan, target)
        if audit.unmatched:
            lifted.update(audit.unmatched)
            notes += _returned(audit.unmatched)
            continue
        with steps("verify"):
            found = verified(plan, artifact, qdq, audit, base, backend, judge, statistics.samples, codes)
        if found.metric and judge and judge.max_drop is not None:
            drop, gate = found.metric.drop, gates.accuracy_gate(found.metric, judge.max_drop)
            found = replace(found, gates=[gate])
            if not gate.passed:
                rejected = found
                weighted = [node.name for node in plan.nodes.values() if node.weights]
                if attempt + 1 == TRIES or not weighted:
                    break
                # A drop is taken to follow the noise's amplitude; each try aims a little lower than the one before.
                aim = judge.max_drop * (1 - AIM_LOWER * attempt)
                with steps("refine", changed=True), tempfile.TemporaryDirectory() as scratch:
                    gain = Gain(
                        plan,
                        lambda names: annotated({**lifted, **dict.fromkeys(names, "measured")}),
                        model.graph,
                        qdq,
                        data.head(GAIN_SAMPLES),
                        Path(scratch),
                    )
                    chosen = worst(
                        weighted,
                        gain,
                        prices=_weights(plan, graph),
                        goal=1 - (aim / drop) ** 2,
                        most=min(2 ** (attempt + 2), (len(weighted) + 1) // 2),  # the estimate may ask for too much
                        progress=lambda done, total: steps.tell("refine", done, total),
                    )
                reason = f"lifted to float by the accuracy gate ({gate.name} {gate.value:.3g} > {gate.limit:.3g})"
                lifted.update(dict.fromkeys(chosen, reason))
                blamed += chosen
                continue
        if blamed:
            lifting = f"the accuracy gate lifted {counted(len(blamed), 'node')} to float"
            notes.append(f"{lifting}: {listed(blamed)}; `dsedge explain` has the reasons")
        notes += said
        near = found.fidelity.sqnr_db
        if judge is None and near is not None and near < POOR_DB:
            hint = "and nothing judges accuracy: give --eval"
            if data.source == "random":
                hint = "on noise, for which outputs may be next to nothing: give real data with --calib and --eval"
            four = any(node.precision == "int4" for node in plan.nodes.values())
            cause = " with INT4 weights: --precision int8 comes nearer" if four else ""
            notes.append(f"outputs are only {near:.1f} dB from the float model's{cause}, {hint}")
        same = found.fidelity.same_lengths
        if judge is None and same < 1.0:
            what = f"an output has another length than the float model's in {100 * (1 - same):.0f}% of the samples"
            notes.append(f"{what}, which are not compared: give --eval")
        return Tried(replace(found, notes=notes), lifted, statistics.samples, notes, attempt + 1, blamed=len(blamed))
    # The last one was made when there was anything to quantize.
    return Tried(rejected, lifted, statistics.samples, notes, attempt + plan.quantized, blamed=len(blamed))


def _returned(unmatched: Mapping[str, str]) -> list[str]:
    """A note for each reason, with the nodes that it is about."""
    by_reason: dict[str, list[str]] = {}
    for node, why in unmatched.items():
        by_reason.setdefault(why, []).append(node)
    return [
        f"{listed(names)} {'was' if len(names) == 1 else 'were'} returned to float: {why}"
        for why, names in by_reason.items()
    ]


def _weights(plan: QuantPlan, graph: ir.Graph) -> dict[str, int]:
    """Node -> bytes that its weights take in float32."""
    nodes = {node.name or "": node for node in graph}
    constants = {name: [nodes[name].inputs[i] for i in found.weights] for name, found in plan.nodes.items()}
    return {
        name: sum(v.const_value.size * 4 for v in values if v is not None and v.const_value is not None)
        for name, values in constants.items()
    }


def _observe(
    statistics: Statistics,
    seen: dict[str, Observed],
    model: Model,
    plan: QuantPlan,
    data: Data,
    method: Method,
    steps: Steps,
) -> list[str]:
    """Observe the plan's values that have no statistics yet: over all samples first, later over a few.

    Returns:
        Where statistics come from, if not from the samples.
    """
    if statistics.products is None:
        blocks = any(node.precision == "int4" for node in plan.nodes.values())
        few = data.head(FEW_SAMPLES if blocks else REFINE_SAMPLES)
        noise = data.source == "random"  # it would not tell which errors matter
        statistics.products = {} if noise else channel_products(model.graph, plan, few)
        statistics.samples = sum(batch.count for batch in few) if blocks and not noise else 0
    observers, constants = statistics.observers, model.graph.graph.initializers
    missing = [name for name in plan.values if name not in observers and name not in constants]
    if not missing:
        return []
    if observers:  # a node that was lifted has uncovered values, and an iterable cannot be read a second time
        observers |= calibrate(model.graph, missing, data.head(FEW_SAMPLES), method)[0]
        return []
    before = seen.setdefault(statistics.graph, Observed())
    if known := {name: before.observers[name] for name in missing if name in before.observers}:
        observers |= known
        statistics.samples = before.samples
        missing = [name for name in missing if name not in known]
    said = [f"{len(known)} values were observed before, for another artifact"] if known else []
    if not missing:
        return said
    digest = data.sha256()
    name = cache.key(
        "calibrate",
        model=statistics.graph,
        values=sorted(missing),
        data=digest,
        histogram=method != "minmax" and (BINS, BINNED),
    )
    if digest is not None and data.samples is not None and (arrays := cache.load(name)) is not None:
        found = Observer.unpack(arrays)
        observers |= found
        before.observers |= found
        statistics.samples = before.samples = data.samples
        return [*said, "statistics were taken from the cache"]
    found, statistics.samples = calibrate(
        model.graph,
        missing,
        data.batches(),
        method,
        progress=lambda done: steps.tell("calibrate", done, data.samples),
    )
    observers |= found
    before.observers |= found
    before.samples = statistics.samples
    if digest is not None:
        cache.store(name, Observer.pack(found))
    return said
