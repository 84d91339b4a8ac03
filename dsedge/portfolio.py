"""Portfolio: what each of a target's runtimes makes of the model, one after another, each by its own contract.

A runtime that fails is a row with its error, not the end, as long as another one succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsedge import candidate, verify
from dsedge.accuracy import Evaluate, judge_by
from dsedge.backends.base import Backend
from dsedge.bundle import Latency, PassInfo
from dsedge.candidate import Baseline, Tried
from dsedge.choose import Failed, Option
from dsedge.data import Data
from dsedge.errors import DsedgeError
from dsedge.given import accept
from dsedge.layout import Layout, find_layout
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.existing import without_pairs
from dsedge.quant.interface import require_io_dtype
from dsedge.quant.observers import Method
from dsedge.quant.precision import Request, require_matches
from dsedge.search import search
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
        tried: what came of quantizing it.
        float_time: the float artifact's, None when not measured.
        notes: what a reader must know of the runtime.
    """

    backend: Backend
    model: Model
    floats: Model
    layout: Layout
    data: Data
    base: Baseline
    tried: Tried
    notes: list[str]
    float_time: Latency | None = None

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"{self.backend.NAME} {self.backend.version()}"


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
    return entries, failures


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
    with steps("normalize", changed=True) as notes:
        model, records = normalize(source)
        model.graph.metadata_props["fingerprint"] = source.fingerprint  # for files that carry metadata
        first = samples.head(verify.GOLDEN_SAMPLES)
        difference = verify.same_function(source, model, first, optimize=not job.given)
        notes.append(f"outputs differ by at most {difference:.2g} from the original's")
        require_matches(job.request, model.graph.graph, contract)
        floats = normalize(source.with_graph(without_pairs(source.graph)))[0] if job.given else model
    for r in records:
        steps.add(PassInfo(name=r.name, seconds=round(r.seconds, 4), changed=r.changed, notes=list(r.notes)))
    with steps("layout", changed=job.io_layout is not None):
        layout = find_layout(model, job.io_layout)
        samples, judge = layout.data(samples), layout.judge(judge, model) if judge else None
        model, floats = layout.model(model), layout.model(floats)
    shown = (judge.data if judge and judge.data else samples).head(verify.FIDELITY_SAMPLES)
    with steps("baseline"):
        base = candidate.baseline(floats, backend, folder, shown, judge)
    if job.given:
        tried = accept(model, base, backend, job.target, judge, folder, steps, io_dtype=codes, strict=job.strict)
    else:
        tried = search(
            model,
            base,
            backend,
            job.target,
            samples,
            job.method,
            judge,
            folder,
            steps,
            job.request,
            io_dtype=codes,
            strict=job.strict,
        )
    return Entry(backend, model, floats, layout, samples, base, tried, option.notes)
