"""Slow nodes are returned to float where that is measured to help; only the numbers are given, all else is real."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flow import quantized, samples, stopwatch
from graphs import chain

import dsedge
from dsedge import lift, race
from dsedge.backends import base, onnxruntime
from dsedge.bench.measure import Contender
from dsedge.bundle import Bundle, Latency
from dsedge.data import Feeds
from dsedge.errors import BuildError, DsedgeError
from dsedge.model import Model
from dsedge.target import Target
from dsedge.verify import verify_bundle

SLOW = "Conv_2"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine stands for the board."""
    monkeypatch.setattr(Target, "matches_host", lambda self: (True, "a test"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the times of the float artifact, the INT8 one, and that with slow nodes in float; and what a node takes."""

    def set_to(float32: float, int8: float, lifted: float = 9.0, *, slow: str = SLOW) -> None:
        def measure(contenders: Sequence[Contender], threads: int) -> list[Latency]:
            times, seen = [], Counter[str]()
            for contender in contenders:
                seen[contender.precision] += 1
                name = "lifted" if seen["int8"] == 2 else contender.precision
                given = {"float32": float32, "int8": int8, "lifted": lifted}[name]
                times += stopwatch({f"{contender.runtime.split()[0]} {contender.precision}": given})([contender], 1)
            return times

        def profile(*given: Any) -> list[base.Cost]:
            """A millisecond for each operator, and five for the slow one where it computes on codes."""
            costs = base.profile(*given)
            return [replace(cost, ms=5.0 if slow in cost.nodes and "QL" in cost.op else 1.0) for cost in costs]

        monkeypatch.setattr(race, "measure", measure)
        monkeypatch.setattr(lift, "profile", profile)

    return set_to


def falling(good: int) -> Callable[[Any], float]:
    """An accuracy that is 1 for the first artifacts that are judged, and then 0."""
    values = iter([1.0] * good)
    return lambda predict: next(values, 0.0)


def compiled(tmp_path: Path, model: Model | None = None, **kwargs: Any) -> Bundle:
    model = model or chain()
    data = [batch.feeds for batch in samples(model)]
    options = {"calibration": data, "runtime": "onnxruntime", "lift": "slow", "output": tmp_path / "out"} | kwargs
    return dsedge.compile(model, target="pos-x86", **options)


def said(bundle: Bundle) -> str:
    (note,) = [note for note in bundle.manifest.notes if note.startswith("--lift slow: ")]
    return note.removeprefix("--lift slow: ").removeprefix(f"onnxruntime {onnxruntime.version()}: ")


def reasons(bundle: Bundle) -> dict[str, str]:
    nodes = json.loads(bundle.file("plan").read_text())["nodes"]
    return {node["name"]: node["reason"] for node in nodes if node["precision"] == "float"}


def test_slow_nodes_are_float_where_that_is_faster(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0, 1.5)
    bundle = compiled(tmp_path)
    assert said(bundle) == "returning 1 slow node (Conv_2) to float gained 25%: 1.5 ms against 2 ms"
    assert reasons(bundle)[SLOW] == "slower in INT8 than in float: 5 ms against 1 ms"
    assert [(row.precision, row.median_ms, row.chosen) for row in bundle.manifest.candidates] == [
        ("int8", 1.5, True),
        ("int8", 2.0, False),
        ("float32", 4.0, False),
    ]
    assert bundle.manifest.candidates[0].reason == "1 slow node in float: the fastest that passes its gates"
    assert [row.median_ms for row in bundle.manifest.latency] == [4.0, 1.5]
    assert len(bundle.manifest.gates) == len({gate.name for gate in bundle.manifest.gates}), "each is judged once"
    assert bundle.manifest.calibration and bundle.manifest.calibration.samples == 8
    verify_bundle(bundle)


def test_where_it_does_not_help_int8_is_kept(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0, 2.5)
    bundle = compiled(tmp_path)
    assert said(bundle) == "returning 1 slow node (Conv_2) to float did not help: 2.5 ms against 2 ms"
    assert SLOW not in reasons(bundle) and bundle.manifest.latency[1].median_ms == 2.0


def test_it_can_win_where_int8_as_a_whole_lost_to_float(tmp_path: Path, clock: Any) -> None:
    clock(1.0, 2.0, 0.5)
    bundle = compiled(tmp_path)
    assert bundle.manifest.precision.precision == "int8" and bundle.manifest.failed == []
    assert SLOW in reasons(bundle)


def test_where_nothing_is_slow_nothing_is_lifted(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0, slow="")
    bundle = compiled(tmp_path)
    assert said(bundle) == "nothing is slower in INT8 than in float by more than conversions would take"
    assert len(bundle.manifest.candidates) == 2


def test_without_the_option_nothing_is_lifted(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0, 0.1)
    bundle = compiled(tmp_path, lift=None)
    assert len(bundle.manifest.candidates) == 2 and not any("lift" in note for note in bundle.manifest.notes)


def test_samples_that_can_be_read_once_are_enough(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0, 1.5)

    def generator() -> Iterator[Feeds]:
        yield from (batch.feeds for batch in samples(chain(), 40))

    bundle = compiled(tmp_path, calibration=generator())
    assert SLOW in reasons(bundle) and bundle.manifest.calibration.samples == 40


def test_what_fails_the_accuracy_gate_does_not_help(tmp_path: Path, clock: Any) -> None:
    """The artifact with slow nodes in float is judged like any other."""
    clock(4.0, 2.0, 0.1)
    bundle = compiled(tmp_path, evaluate=falling(2), max_drop=0.1)
    assert said(bundle).endswith("to float did not help: accuracy is lost all the same")
    assert bundle.manifest.latency[1].median_ms == 2.0 and bundle.manifest.failed == []


def test_an_artifact_that_fails_is_told_of(tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(4.0, 2.0)
    build = onnxruntime.build

    def refuse(model: Any, folder: Path) -> Any:
        if "lifted" in folder.parts:
            raise BuildError("DS401", "it cannot be written")
        return build(model, folder)

    monkeypatch.setattr(onnxruntime, "build", refuse)
    assert said(compiled(tmp_path)) == "returning 1 slow node (Conv_2) to float failed: DS401: it cannot be written"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"precision": "fp32", "calibration": None}, "nothing is INT8 there"),
        ({"evaluate": falling(1), "max_drop": 0.1}, "no INT8 artifact passed the accuracy gate"),
    ],
)
def test_where_there_is_no_int8_nothing_is_lifted(
    tmp_path: Path, clock: Any, options: dict[str, Any], why: str
) -> None:
    clock(4.0, 2.0)
    assert said(compiled(tmp_path, **options)) == f"nothing was lifted, because {why}"


def test_pairs_that_came_with_the_model_stay(tmp_path: Path, clock: Any) -> None:
    clock(4.0, 2.0)
    made = quantized(chain())
    bundle = compiled(tmp_path, made.source.with_graph(made.model))
    assert said(bundle) == "nothing was lifted, because the model came quantized: placement is its own"


def test_where_nothing_is_measured_nothing_is_lifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "matches_host", lambda self: (False, "this is another machine"))
    assert said(compiled(tmp_path)) == ("nothing was lifted, because nothing is measured here: this is another machine")


def test_a_runtime_without_a_profiler_tells_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "profile")
    assert said(compiled(tmp_path)) == "nothing was lifted, because the runtime does not tell what an operator takes"


@pytest.mark.parametrize("options", [{"lift": "fast"}, {"lift": "slow", "strict_int8": True}])
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(DsedgeError) as caught:
        compiled(tmp_path, **options)
    assert caught.value.code == "DS145" and not (tmp_path / "out").exists()
