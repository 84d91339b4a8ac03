"""Race: the candidates of all runtimes, timed in turns, and which of them is shipped.

The accuracy gate comes first: what failed it is not timed. Of the others each must not be slower than the fastest float
artifact of any runtime, so an INT8 artifact is shipped only where it gains. The fastest that passes its gates is taken;
when none does, the fastest float artifact, and the gates of its quantized sibling say why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from dsedge import gates
from dsedge.backends.base import is_deferred, profile
from dsedge.bench.measure import Contender, measure
from dsedge.bundle import CandidateInfo, CostInfo, Latency
from dsedge.candidate import Candidate, Tried, float_candidate, precision
from dsedge.choose import Failed
from dsedge.data import Feeds
from dsedge.portfolio import Entry
from dsedge.quant.interface import as_codes
from dsedge.quant.precision import Request
from dsedge.target import Target
from dsedge.verify import open_artifact

THREADS = 1
"""Threads of latency measurements: one core gives figures that repeat."""
_SHOWN = 10
"""Operators whose cost is told."""
_SMALL = 0.1
"""Where no operator takes this share of an inference, their types tell more than they do."""


def race(entries: Sequence[Entry], target: Target) -> list[Entry]:
    """Time the artifacts of all runtimes where this machine can tell, and judge latency and size."""
    matches, why = target.matches_host()
    groups = [_contenders(entry) if matches else [] for entry in entries]
    times = iter(measure([c for group in groups for c in group], THREADS) if matches else [])
    rows = [list(islice(times, len(group))) for group in groups]
    fastest = min((row[0] for row in rows if row), key=lambda x: x.median_ms, default=None)
    note = "" if matches else f"not measured here: {why}"
    return [_judged(entry, row, fastest, target, note) for entry, row in zip(entries, rows, strict=True)]


def pick(entries: Sequence[Entry], target: Target, request: Request) -> tuple[Entry, Candidate]:
    """The runtime and the artifact to ship.

    Args:
        entries: from `race`.
        target: the board.
        request: which precision was asked for.

    Returns:
        The fastest quantized artifact of which the float one would not do better: one that keeps size limits too,
        where there is one. Else the float artifact of the runtime that is fastest in float.
    """
    passing = [(entry, found) for entry in entries for found in entry.found if not gates.decisive(found.gates)]
    if passing:
        return min(passing, key=lambda pair: (_fails(pair[1]), _median(pair[1].latency)))
    entry = min(entries, key=lambda e: e.float_time.median_ms if e.float_time else 0.0)
    asked = entry.tries[0]
    rejected = asked.found
    latency = rejected.latency if rejected and rejected.latency else [entry.float_time] if entry.float_time else []
    contract = entry.backend.contract(target)
    return entry, float_candidate(entry.floats.graph, entry.base, contract, target, asked, latency, request)


def table(
    entries: Sequence[Entry], failures: Sequence[Failed], shipped: tuple[Entry, Candidate], request: Request
) -> list[CandidateInfo]:
    """A row for each artifact, the fastest first, and for each runtime that has none or failed."""
    winner, chosen = shipped
    rows = [row for entry in entries for row in _rows(entry, chosen if entry is winner else None)]
    rows.sort(key=lambda row: (row.median_ms is None, row.median_ms or 0.0))
    best = next(row for row in rows if row.chosen)
    told = [row.model_copy(update={"reason": _joined(row.reason, _reason(row, best, len(entries)))}) for row in rows]
    without = [
        CandidateInfo(
            runtime=entry.backend.NAME,
            version=entry.backend.version() or "",
            precision=request.base,
            reason=f"nothing in the model can run in {request.base.upper()} on {entry.backend.NAME}",
        )
        for entry in entries
        if entry.tries[0].found is None and request.base != "fp32"
    ]
    failed = [
        CandidateInfo(
            runtime=failure.backend.NAME,
            version=failure.backend.version() or "",
            precision=failure.precision or str(request),
            reason="not made",
            error=failure.error.to_json(),
        )
        for failure in failures
    ]
    return told + without + failed


def _rows(entry: Entry, chosen: Candidate | None) -> list[CandidateInfo]:
    """The float artifact's row, and those of the others."""
    base, time = entry.base, entry.float_time
    row = CandidateInfo(
        runtime=entry.backend.NAME,
        version=entry.backend.version() or "",
        precision="float32",
        metric=base.metric,
        median_ms=time.median_ms if time else None,
        iqr_ms=time.iqr_ms if time else None,
        bytes=base.artifact.bytes,
        chosen=chosen is not None and all(chosen is not found for found in entry.found),
    )
    rows = [row]
    for tried in entry.tries:
        found = tried.found
        if found is None:
            continue
        own = found.latency[-1] if found.latency else None
        changes = {
            "precision": precision(found.plan),
            "sqnr_db": found.fidelity.sqnr_db,
            "metric": found.metric,
            "median_ms": own.median_ms if own else None,
            "iqr_ms": own.iqr_ms if own else None,
            "bytes": found.artifact.bytes,
            "failed": [gate.name for gate in found.gates if gate.passed is False],
            "chosen": chosen is found,
            "reason": _lifted(tried),
        }
        rows.append(row.model_copy(update=changes))
    return rows


def costs(entry: Entry, chosen: Candidate, target: Target) -> list[CostInfo]:
    """The operators of the chosen artifact that cost the most, added up by type when each takes little.

    None where this machine or the runtime cannot tell.
    """
    if not target.matches_host()[0]:
        return []
    every = profile(entry.backend, chosen.artifact, as_codes(longest(entry), chosen.codes), THREADS)
    found = [cost for cost in every if cost.ms]
    total = sum(cost.ms for cost in found) or 1.0
    told = [CostInfo(node=cost.node, op=cost.op, ms=cost.ms, share=cost.ms / total) for cost in found]
    return (told if not told or told[0].share >= _SMALL else _by_type(told))[:_SHOWN]


def _by_type(costs: Sequence[CostInfo]) -> list[CostInfo]:
    groups: dict[str, list[CostInfo]] = {}
    for cost in costs:
        groups.setdefault(cost.op, []).append(cost)
    sums = [
        CostInfo(node="", op=op, operators=len(of), ms=sum(c.ms for c in of), share=sum(c.share for c in of))
        for op, of in groups.items()
    ]
    return sorted(sums, key=lambda cost: cost.ms, reverse=True)


def longest(entry: Entry) -> Feeds:
    """One sample: of samples of several lengths the longest: it is what a budget has to hold for."""
    return max(entry.base.samples, key=lambda sample: sum(array.size for array in sample.feeds.values())).feeds


def _contenders(entry: Entry) -> list[Contender]:
    """The float artifact, and the others that passed the accuracy gate."""
    base, backend = entry.base, entry.backend
    feeds = longest(entry)
    made = [Contender(entry.runtime, "float32", open_artifact(backend, base.artifact.main, THREADS), feeds)]
    for found in _accurate(entry):
        # Who asks for an artifact that reads codes has codes: making them is not its time.
        codes = as_codes(feeds, found.codes)
        predict = open_artifact(backend, found.artifact.main, THREADS)
        made.append(Contender(entry.runtime, precision(found.plan), predict, codes))
    return made


def _accurate(entry: Entry) -> list[Candidate]:
    return [found for found in entry.found if not gates.decisive(found.gates)]


def _judged(entry: Entry, row: list[Latency], fastest: Latency | None, target: Target, note: str) -> Entry:
    """The entry with the latency of its artifacts, and the gates of latency and size behind that of accuracy."""
    own = iter(row[1:])

    def judged(tried: Tried) -> Tried:
        found = tried.found
        if found is None or gates.decisive(found.gates):
            return tried
        latency = [fastest, next(own)] if fastest else []
        stored = precision(found.plan) == "fp16" and not entry.backend.contract(target).computes_half
        more = [
            *gates.latency_gates(latency, target.budgets, note, float_kernels=stored),
            *gates.size_gates(
                entry.base.artifact.bytes, found.artifact.bytes, target.budgets, graph=is_deferred(entry.backend)
            ),
        ]
        return replace(tried, found=replace(found, latency=latency, gates=[*found.gates, *more]))

    return replace(entry, tries=[judged(tried) for tried in entry.tries], float_time=row[0] if row else None)


def _fails(found: Candidate) -> bool:
    return any(gate.passed is False for gate in found.gates)


def _median(latency: Sequence[Latency]) -> float:
    return latency[-1].median_ms if latency else 0.0


def _lifted(tried: Tried) -> str:
    """How many nodes are float because of latency or accuracy."""
    blamed = f"{tried.blamed} node{'s' if tried.blamed > 1 else ''} in float by the accuracy gate"
    return ", ".join(text for text in (tried.about, blamed if tried.blamed else "") if text)


def _joined(about: str, reason: str) -> str:
    return ": ".join(text for text in (about, reason) if text)


def _reason(row: CandidateInfo, best: CandidateInfo, runtimes: int) -> str:
    failed = ", ".join(row.failed)
    if row.chosen and row.precision == "float32":
        return "nothing quantized passes its gates" + (": this is the fastest in float" if runtimes > 1 else "")
    if row.chosen and failed:
        return f"it fails {failed}, and the float artifact does no better"
    if row.chosen:
        return "the fastest that passes its gates" if row.median_ms is not None else "it passes its gates"
    if row.failed == [gates.LATENCY_VS_FLOAT]:
        return "slower than the fastest float artifact"
    if failed:
        return f"refused: {failed}"
    if row.median_ms is None or not best.median_ms:
        return ""
    return f"takes {row.median_ms / best.median_ms:.2f} times as long as the one chosen"
