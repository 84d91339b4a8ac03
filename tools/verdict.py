"""Dsedge against its peers on one model: the rows of `compare_peers.py`, and the claims that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cases import Goal
from fidelity import Fidelity

NOISE = 0.02
AS_FAST = 0.05
SQNR_TOLERANCE_DB = 0.05
LEAST_DB, LEAST_AGREEMENT = 5.0, 0.9
"""What an artifact must keep of the outputs to count: one that is fast because it is wrong is no measure."""

_CHOOSING, _JUDGING = slice(0, None, 2), slice(1, None, 2)

Claim = tuple[str, bool, str]
"""Its name, whether it holds, and the figures."""


@dataclass
class Row:
    """What is known about one artifact; fields stay None where there was an error.

    Attributes:
        error: why there is no artifact.
        seconds, process_seconds, peak_rss_mb: what quantizing cost.
        times: milliseconds of each round.
    """

    name: str
    artifact: Path
    error: str | None = None
    seconds: float | None = None
    process_seconds: float | None = None
    peak_rss_mb: float | None = None
    steps: Mapping[str, float] | None = None
    notes: Iterable[str] = ()
    times: npt.NDArray[np.float64] | None = None
    fidelity: Fidelity | None = None
    size_mb: float | None = None
    int8: str = ""

    @property
    def counts(self) -> bool:
        """Whether the artifact runs and keeps enough of the outputs."""
        if self.times is None or self.fidelity is None:
            return False
        return (
            self.fidelity.worst_db >= LEAST_DB and min(self.fidelity.agreement.values(), default=1) >= LEAST_AGREEMENT
        )


def verdict(rows: list[Row], goal: Goal) -> list[Claim]:
    """Dsedge against the float model, against what the model must reach, and against the peers that count.

    Several peers make the same graph, and the luckiest of them looks faster than it is. So the fastest is chosen by
    every second round, and compared by the other rounds.

    Args:
        rows: float first, then dsedge, then the peers.
        goal: of the model.

    Returns:
        The claims; one that does not hold when there is nothing to compare.
    """
    (base, ours), peers = rows[:2], [row for row in rows[2:] if row.times is not None]
    if ours.times is None or base.times is None or not peers:
        return [("comparison", False, ours.error or "no peer made an artifact")]
    peers = [row for row in peers if row.counts]
    ratio = 1 / _ratio(ours, base, _JUDGING)
    claims = [("not slower than float", ratio >= 1 - NOISE, f"x{ratio:.2f}"), *_reached(ours, ratio, goal)]
    if not peers:
        return [*claims, ("keeps the outputs, as no peer does", ours.counts, f"{_worst(ours):.2f} dB")]
    return [*claims, *_against(peers, ours, goal)]


def _reached(ours: Row, ratio: float, goal: Goal) -> list[Claim]:
    """Dsedge against the goal, peers aside."""
    claims = []
    if goal.ratio is not None:
        claims.append((f"x{goal.ratio:g} over float", ratio >= goal.ratio, f"x{ratio:.2f}"))
    if goal.sqnr_db is not None:
        claims.append((f"{goal.sqnr_db:g} dB or more", _worst(ours) >= goal.sqnr_db, f"{_worst(ours):.2f} dB"))
    if goal.agreement is not None:
        name, least = goal.agreement
        share = ours.fidelity.agreement[name] if ours.fidelity else 0.0
        claims.append((f"{name} agreement over {least:.0%}", share > least, f"{share:.2%}"))
    return claims


def _against(peers: list[Row], ours: Row, goal: Goal) -> list[Claim]:
    """Dsedge against peers that count; there is one at least."""
    fastest = max(peers, key=lambda row: _ratio(ours, row, _CHOOSING))
    of_fastest = _ratio(ours, fastest, _JUDGING)
    rivals = [row for row in peers if _ratio(fastest, row, _CHOOSING) >= 1 - AS_FAST]
    claims = [
        ("as fast as the fastest peer", of_fastest <= 1 + NOISE, f"{of_fastest:.3f} of the time of {fastest.name}"),
        _more_exact("SQNR at least equal", ours, max(rivals, key=_worst), _worst, SQNR_TOLERANCE_DB),
    ]
    if goal.above_peers:

        def part(row: Row) -> float:
            return row.fidelity.sqnr_db[str(goal.above_peers)] if row.fidelity else -np.inf

        claims.append(_more_exact(f"SQNR of {goal.above_peers} above every peer's", ours, max(peers, key=part), part))
    quickest = min(peers, key=lambda row: row.seconds or np.inf)
    smallest = min(peers, key=lambda row: row.peak_rss_mb or np.inf)
    return [
        *claims,
        (
            "quantizes in less time",
            (ours.seconds or np.inf) < (quickest.seconds or 0),
            f"{ours.seconds:.3f} s against {quickest.seconds:.3f} s of {quickest.name}",
        ),
        (
            "quantizes in less memory",
            (ours.peak_rss_mb or np.inf) < (smallest.peak_rss_mb or 0),
            f"{ours.peak_rss_mb:.0f} MB against {smallest.peak_rss_mb:.0f} MB of {smallest.name}",
        ),
    ]


def _more_exact(name: str, ours: Row, peer: Row, part: Callable[[Row], float], tolerance: float = 0.0) -> Claim:
    figures = f"{part(ours):.2f} dB against {part(peer):.2f} dB of {peer.name}"
    return name, part(ours) >= part(peer) - tolerance, figures


def _ratio(row: Row, other: Row, rounds: slice) -> float:
    """Median over rounds of the time of one row / that of another."""
    assert row.times is not None and other.times is not None
    return float(np.median(row.times[rounds] / other.times[rounds]))


def _worst(row: Row) -> float:
    return row.fidelity.worst_db if row.fidelity else -np.inf
