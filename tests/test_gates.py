from __future__ import annotations

import pytest

from dsedge.bundle import Latency, Metric
from dsedge.gates import LATENCY_TOLERANCE, SIZE_SLACK, accuracy_gate, latency_gates, size_gates
from dsedge.target import Budgets


def metric(drop: float) -> Metric:
    return Metric(name="top1", float=90.0, quantized=90.0 - drop, drop=drop, samples=100)


def row(ms: float) -> Latency:
    return Latency(runtime="r", precision="p", median_ms=ms, p90_ms=ms, runs=20, threads=1, where="here", conditions={})


@pytest.mark.parametrize(
    ("drop", "limit", "passed"),
    [(0.5, 0.5, True), (0.51, 0.5, False), (-3.0, 0.0, True), (0.0, 0.0, True), (float("nan"), 100.0, False)],
)
def test_accuracy(drop: float, limit: float, passed: bool) -> None:
    gate = accuracy_gate(metric(drop), limit)
    assert gate.name == "top1_drop"
    assert gate.limit == limit
    assert gate.passed is passed


@pytest.mark.parametrize(("ms", "passed"), [(5.0, True), (10.0, True), (10.2, True), (10.4, False)])
def test_not_slower_than_float(ms: float, passed: bool) -> None:
    (gate,) = latency_gates([row(10.0), row(ms)], Budgets(), "")
    assert gate.name == "latency_vs_float"
    assert gate.limit == LATENCY_TOLERANCE
    assert gate.passed is passed


def test_what_was_not_measured_is_no_pass() -> None:
    gates = latency_gates([], Budgets(latency_ms=5.0), "not measured here: another machine")
    assert [(g.name, g.value, g.passed) for g in gates] == [
        ("latency_vs_float", None, None),
        ("latency_ms", None, None),
    ]
    assert gates[0].note == "not measured here: another machine"
    assert latency_gates([row(1.0)], Budgets(), "")[0].passed is None, "a float artifact alone proves nothing"


def test_a_time_of_this_machine_says_nothing_of_the_board_s_budget() -> None:
    gates = latency_gates([row(1.0), row(0.5)], Budgets(latency_ms=100.0), "")
    assert gates[1].passed is None
    assert "board" in gates[1].note


def test_size_and_memory() -> None:
    budgets = Budgets(size_mb=1.0, memory_mb=64.0)
    size, disk, memory = size_gates(2**22, 2**20, budgets)
    assert (size.name, size.limit, size.value, size.passed) == ("size", 2**22 + SIZE_SLACK, 2**20, True)
    assert (disk.name, disk.value, disk.passed) == ("size_mb", 1.0, True)
    assert (memory.name, memory.passed) == ("memory_mb", None)
    assert size_gates(100, 101 + SIZE_SLACK, Budgets())[0].passed is False
    assert size_gates(100, 101, Budgets())[0].passed is True
    assert size_gates(2**22, 2**20 + 1, budgets)[1].passed is False


def test_the_kernels_of_the_float_artifact_are_not_raced_against_themselves() -> None:
    assert latency_gates([row(10.0), row(11.0)], Budgets(), "", float_kernels=True) == []
