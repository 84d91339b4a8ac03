from __future__ import annotations

from pathlib import Path

import compare_peers
import numpy as np
import pytest
from compare_peers import Row, prepare, verdict

TIMES = np.tile([1.0, 1.1, 0.9], 20)


def row(name: str, ms: float, **facts: float) -> Row:
    return Row(name, Path(), times=TIMES * ms, **{"sqnr_db": 30.0, "seconds": 1.0, "peak_rss_mb": 100.0, **facts})


def claims(ours: Row, *peers: Row) -> list[bool]:
    return [holds for _, holds, _ in verdict([row("float", 4.0), ours, *peers])]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (row("dsedge", 1.0, seconds=0.5, peak_rss_mb=50.0), [True, True, True, True, True]),
        (row("dsedge", 1.01, seconds=0.5, peak_rss_mb=50.0), [True, True, True, True, True]),
        (row("dsedge", 1.05, sqnr_db=29.0), [True, False, False, False, False]),
        (row("dsedge", 5.0, seconds=0.5, peak_rss_mb=50.0), [False, False, True, True, True]),
    ],
)
def test_verdict(ours: Row, expected: list[bool]) -> None:
    slow_but_exact = row("slow", 2.0, sqnr_db=50.0, seconds=3.0, peak_rss_mb=300.0)
    failed = Row("failed", Path(), error="no such package")
    assert claims(ours, row("fast", 1.0), slow_but_exact, failed) == expected


def test_sqnr_is_compared_with_the_best_of_the_fast_ones() -> None:
    ours = row("dsedge", 1.0, sqnr_db=31.0)
    assert claims(ours, row("fast", 1.0), row("as fast", 1.03, sqnr_db=32.0))[2] is False
    assert claims(ours, row("fast", 1.0), row("slower", 1.2, sqnr_db=32.0))[2] is True


def test_nothing_to_compare_with_is_no_pass() -> None:
    assert claims(row("dsedge", 1.0), Row("peer", Path(), error="no such package")) == [False]
    assert claims(Row("dsedge", Path(), error="DS999"), row("peer", 1.0)) == [False]


def test_a_peer_that_fails_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # xdist sets it, and the table would fold
    monkeypatch.setattr(compare_peers, "REPEATS", 1)
    monkeypatch.setattr(compare_peers, "SECONDS", 0.1)
    case = prepare("digits_cnn", tmp_path)
    variants = {"dsedge": ("dsedge", {}), "peer": ("onnxruntime static", {"method": "none"})}
    rows = [Row("float", case.model), *compare_peers.quantize_all(case, variants, tmp_path)]
    compare_peers.measure(case, rows)
    compare_peers.print_table(case, rows)
    _, ours, peer = rows
    assert peer.error == "KeyError: 'none'"
    assert ours.error is None
    assert ours.sqnr_db is not None
    assert ours.sqnr_db > 30
    assert "failed: KeyError" in capsys.readouterr().out
