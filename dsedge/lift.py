"""Lift: the INT8 nodes that are slower than in float, returned to float and timed against all other artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsedge.backends.base import Cost, profile
from dsedge.candidate import Tried
from dsedge.errors import DsedgeError, LoadError, did_you_mean
from dsedge.portfolio import Entry
from dsedge.quant.interface import as_codes
from dsedge.race import THREADS, longest, race
from dsedge.slow import slower
from dsedge.steps import Steps
from dsedge.target import Target

_SAID = "--lift slow: "
_NAMED = 5
_ROUNDS = 3
"""Profiles of each artifact, in turns: what else runs on this machine would look like slow operators in one of them."""


def require_lift(lift: str | None, *, strict_int8: bool) -> None:
    """Refuse what cannot be lifted.

    Raises:
        LoadError: DS145.
    """
    if lift not in (None, "slow"):
        raise LoadError("DS145", f"{lift!r} names no operators", where="lift", hint=did_you_mean(lift, ["slow"]))
    if lift is not None and strict_int8:
        because = "one returns operators to float, the other allows none in float"
        raise LoadError("DS145", "--lift slow and --strict-int8 exclude each other", because=because)


def lift_slow(entries: list[Entry], raced: list[Entry], target: Target, steps: Steps) -> tuple[list[Entry], list[str]]:
    """Give each INT8 artifact a sibling in which its slow nodes are float, and time all once more.

    Args:
        entries: from `enter_all`, not judged by latency yet.
        raced: the same, from `race`.
        target: the board.
        steps: the record.

    Returns:
        The entries as `race` judges them, with one try more where nodes were lifted, and for each what came of it or
        why there is none.
    """
    matches, why = target.matches_host()
    if not matches:
        return raced, [f"{_SAID}nothing was lifted, because nothing is measured here: {why}"]
    found = [_lifted(entry, judged, steps) for entry, judged in zip(entries, raced, strict=True)]
    if any(tried for tried, _ in found):
        again = [
            replace(entry, tries=[*entry.tries, tried]) if tried else entry
            for entry, (tried, _) in zip(entries, found, strict=True)
        ]
        with steps("measure"):
            raced = race(again, target)
    told = [said if tried is None else _told(entry, said) for entry, (tried, said) in zip(raced, found, strict=True)]
    return raced, [f"{_SAID}{entry.runtime}: {said}" for entry, said in zip(entries, told, strict=True)]


def _lifted(entry: Entry, judged: Entry, steps: Steps) -> tuple[Tried | None, str]:
    """A runtime's artifact with slow nodes in float and their names, or None and why there is none."""
    first = judged.tries[0]
    eight = first.found
    if eight is None or all(node.precision != "int8" for node in eight.plan.nodes.values()):
        return None, "nothing was lifted, because nothing is INT8 there"
    if not eight.latency:
        return None, "nothing was lifted, because no INT8 artifact passed the accuracy gate"
    if entry.again is None:
        return None, "nothing was lifted, because the model came quantized: placement is its own"
    with steps("profile"):
        pairs = ((eight.artifact, as_codes(longest(entry), eight.codes)), (entry.base.artifact, longest(entry)))
        rounds = [[profile(entry.backend, *pair, THREADS) for pair in pairs] for _ in range(_ROUNDS)]
        costs, floats = (_least(profiles) for profiles in zip(*rounds, strict=True))
        slow = slower(entry.backend.prepare(entry.floats.graph).graph, eight.plan, costs, floats)
    if not costs:
        return None, "nothing was lifted, because the runtime does not tell what an operator takes"
    if not slow:
        return None, "nothing is slower in INT8 than in float by more than conversions would take"
    count = f"{len(slow)} slow node{'s' if len(slow) > 1 else ''}"
    more = f" and {len(slow) - _NAMED} more" if len(slow) > _NAMED else ""
    names = f"{count} ({', '.join(list(slow)[:_NAMED])}{more})"
    try:
        tried = entry.again({**first.lifted, **slow})
    except DsedgeError as error:
        return None, f"returning {names} to float failed: {error.code}: {error.what}"
    return replace(tried, about=f"{count} in float", blamed=first.blamed + tried.blamed), names


def _least(profiles: Sequence[list[Cost]]) -> list[Cost]:
    """One profile of several, with the least time of each operator."""
    times = [{cost.node: cost.ms for cost in costs} for costs in profiles]
    return [replace(cost, ms=min(found.get(cost.node, cost.ms) for found in times)) for cost in profiles[0]]


def _told(entry: Entry, names: str) -> str:
    """What came of lifting nodes, from the times of both artifacts in one race."""
    before, after = entry.tries[0].found, entry.tries[-1].found
    if after is None:
        return f"returning {names} to float leaves nothing in INT8: that is the float artifact"
    if before is None or not after.latency:
        return f"returning {names} to float did not help: accuracy is lost all the same"
    old, new = before.latency[-1].median_ms, after.latency[-1].median_ms
    gain = f"gained {100 * (1 - new / old):.0f}%" if new < old else "did not help"
    return f"returning {names} to float {gain}: {new:.3g} ms against {old:.3g} ms"
