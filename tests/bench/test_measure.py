from __future__ import annotations

import platform

import numpy as np

from dsedge.bench.measure import Contender, measure
from dsedge.data import Feeds


def test_what_the_runtime_says_of_itself_is_recorded() -> None:
    def told(feeds: Feeds) -> list[np.ndarray]:
        return []

    told.conditions = {"inference_precision": "bf16"}  # type: ignore[attr-defined]
    feeds = {"x": np.ones((2, 2))}
    one, other = measure([Contender("a", "bf16", told, feeds), Contender("b", "int8", lambda feeds: [], feeds)], 1)
    assert one.conditions["inference_precision"] == "bf16" and one.conditions["inputs"] == "x 2x2"
    assert "inference_precision" not in other.conditions


def test_a_row_for_each_artifact() -> None:
    calls = {"float32": 0, "int8": 0}

    def count(name: str):  # type: ignore[no-untyped-def]
        def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            calls[name] += 1
            np.linalg.svd(feeds["x"])
            return []

        return run

    feeds = {"x": np.ones((40, 40))}
    rows = measure([Contender("some runtime 1.0", name, count(name), feeds) for name in calls], threads=2)
    assert [row.precision for row in rows] == ["float32", "int8"]
    for row in rows:
        assert row.runtime == "some runtime 1.0"
        assert row.threads == 2
        assert 20 <= row.runs <= 300
        assert 0 < row.median_ms <= row.p90_ms
        assert 0 <= row.iqr_ms <= row.p90_ms
        assert row.conditions["inputs"] == "x 40x40"
        assert platform.machine() in row.where
        assert {"cpu", "cores", "load_1min", "governor", "method"} <= set(row.conditions)
    assert calls["float32"] == calls["int8"] >= rows[0].runs
