"""Portfolio: what each of a target's runtimes makes of the model, one after another, each by its own contract.

A runtime that fails is a row with its error, not the end, as long as another one succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsedge import candidate, verify
from dsedge.accuracy import Evaluate, Judge, judge_by
from dsedge.backends.base import Backend, alternatives
from dsedge.bundle import Latency, PassInfo
from dsedge.candidate import Baseline, Candidate, Tried
from dsedge.choose import Failed, Option
from dsedge.data import Data
from dsedge.errors import DsedgeError
from dsedge.finite import require_finite
from dsedge.given import accept
from dsedge.layout import Layout, find_layout
from dsedge.model import RANGES, Model
from dsedge.passes.normalize import normalize
from dsedge.quant.existing import without_pairs
from dsedge.quant.interface import require_io_dtype
from dsedge.quant.observers import Method
from dsedge.quant.precision import Request, parse_request, require_available, require_matches
from dsedge.search import Observed, search
from dsedge.steps import Steps
from dsedge.streaming import open_samples
from dsedge.target import Target


@dataclass(frozen=True)
class Job:
    """What was asked for, the same for every runtime.

    Attributes:
        target: the board.
        request: the precision.
        given: the model came with Q/DQ pairs of its own.
        calibration, evaluate, max_drop, recipe: as `compile` takes them.
        method: how ranges are chosen.
        io_layout, io_dtype, strict: as `compile` takes them.
        alternatives: whether runtimes may try other precisions beside the one that was asked for.
        seen: statistics of the samples, by graph: what one runtime's calibration saw serves the next one's.
    """

    target: Target
    request: Request
    given: bool
    calibration: str | Path | Iterable[Any]
    evaluate: Evaluate | None
    max_drop: float | None
    recipe: str | Path | None
    method: Method
    io_layout: str | None
    io_dtype: str
    strict: bool
    alternatives: bool = False
    seen: dict[str, Observed] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """What one runtime made of the model.

    Attributes:
        backend: of the runtime.
        model: normalized, with the artifact's interface.
        floats: the same without Q/DQ pairs of its own.
        layout: of its inputs and outputs.
        data: the calibration samples.
        base: the float artifact.
        judge: judges accuracy, None when nothing does.
        tries: what came of the precision that was asked for, then of the runtime's alternatives to it, then of the same
            precision with slow nodes in float.
        failed: the alternatives that could not be made.
        notes: what a reader must know of the runtime.
        float_time: the float artifact's, None when not measured.
        again: searches once more, with nodes (name -> reason) in float from the start; None for a model that came with
            Q/DQ pairs.
    """

    backend: Backend
    model: Model
    floats: Model
    layout: Layout
    data: Data
    base: Baseline
    judge: Judge | None
    tries: list[Tried]
    failed: list[Failed]
    notes: list[str]
    float_time: Latency | None = None
    again: Callable[[Mapping[str, str]], Tried] | None = None

    @property
    def found(self) -> list[Candidate]:
        """The artifacts beside the float one."""
        return [tried.found for tried in self.tries if tried.found]

    def is_alternative(self, chosen: Candidate) -> bool:
        """Whether an artifact has another precision than the one that was asked for."""
        return any(tried.found is chosen for tried in self.tries[1:] if not tried.about)

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"{self.backend.NAME} {self.backend.version() or ''}".strip()


def enter_all(options: Sequence[Option], job: Job, folder: Path, steps: Steps) -> tuple[list[Entry], list[Failed]]:
    """Compile for each runtime, in a folder of its own below the workspace.

    Returns:
        What was made, and the runtimes that failed.

    Raises:
        DsedgeError: the first error, when all fail.
    """
    entries, failures = [], []
    for option in options:
        name = option.backend.NAME
        try:
            entries.append(enter(option, job, folder / name, steps.of(name) if len(options) > 1 else steps))
        except DsedgeError as error:
            failures.append(Failed(option.backend, error))
    if not entries:
        raise failures[0].error
    return entries, failures + [failed for entry in entries for failed in entry.failed]


def enter(option: Option, job: Job, folder: Path, steps: Steps) -> Entry:
    """Compile for one runtime: normalize -> layout -> baseline -> search. Nothing is timed.

    Args:
        option: the runtime, and the model as it wants it.
        job: what was asked for.
        folder: for its artifacts; it is made.
        steps: the record.
    """
    folder.mkdir()
    source, backend = option.model, option.backend
    contract = backend.contract(job.target)
    codes = require_io_dtype(job.io_dtype, contract)
    with steps("data"):
        samples = open_samples(job.calibration, source, recipe=job.recipe)
        judge = judge_by(job.evaluate, job.max_drop, source, job.recipe)
        read = [samples, judge.data] if judge and judge.data else [samples]
        about = [*option.notes, *dict.fromkeys(note for each in read for note in each.notes)]
    with steps("normalize", changed=True) as notes:
        model, records = normalize(source)
        first = samples.head(verify.GOLDEN_SAMPLES)
        difference = verify.same_function(source, model, first, optimize=not job.given)
        notes.append(f"outputs differ by at most {difference:.2g} from the original's")
        if job.request.entries:
            asked_of = backend.prepare(model.graph) if job.request.calibrates else model.graph
            coded = [spec.name for spec in source.inputs if codes != "float" and spec.dtype == "float32"]
            require_matches(job.request, asked_of.graph, contract, codes=coded)
        floats = normalize(source.with_graph(without_pairs(source.graph)))[0] if job.given else model
    for r in records:
        steps.add(PassInfo(name=r.name, seconds=round(r.seconds, 4), changed=r.changed, notes=list(r.notes)))
    with steps("layout", changed=job.io_layout is not None):
        layout = find_layout(model, job.io_layout)
        samples, judge = layout.data(samples), layout.judge(judge, model) if judge else None
        model, floats = layout.model(model), layout.model(floats)
    for graph in (model.graph, floats.graph):  # for files that carry metadata
        graph.metadata_props.update({"fingerprint": source.fingerprint, RANGES: json.dumps(source.ranges)})
    with steps("baseline"):
        base = candidate.baseline(floats, backend, folder, judge.data if judge and judge.data else samples, judge)
    about += require_finite(floats.outputs, base.outputs, base.source)
    if job.given:
        asked = accept(model, base, backend, job.target, judge, folder, steps, io_dtype=codes, strict=job.strict)
        return Entry(backend, model, floats, layout, samples, base, judge, [asked], [], about)

    def tried(request: Request, where: Path, lifted: Mapping[str, str] | None = None) -> Tried:
        where.mkdir(exist_ok=True)
        return search(
            model,
            base,
            backend,
            job.target,
            samples,
            job.method,
            judge,
            where,
            steps,
            request,
            job.seen,
            io_dtype=codes,
            strict=job.strict,
            floats=lifted,
        )

    tries, failed = [tried(job.request, folder)], []
    for precision in alternatives(backend, job.target, floats.graph.graph) if job.alternatives else ():
        try:
            require_available(request := parse_request(precision), contract)
            tries.append(tried(request, folder / precision))
        except DsedgeError as error:
            failed.append(Failed(backend, error, precision))
    return Entry(
        backend,
        model,
        floats,
        layout,
        samples,
        base,
        judge,
        tries,
        failed,
        about,
        again=lambda lifted: tried(job.request, folder / "lifted", lifted),
    )
