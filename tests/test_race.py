"""Several runtimes for one board: what is shipped, why, and what the table says of the others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import run, samples, stopwatch
from graphs import Net, chain

import dsedge
from dsedge import assemble, portfolio, race
from dsedge.backends import litert, onnxruntime
from dsedge.backends.base import Cost
from dsedge.bench.runner import sqnr
from dsedge.bundle import Bundle, CandidateInfo
from dsedge.candidate import Tried
from dsedge.data import Feeds
from dsedge.errors import BuildError, DsedgeError
from dsedge.model import Model
from dsedge.target import Target
from dsedge.verify import verify_bundle

pytest.importorskip("ai_edge_litert")
BOARD = 'extends = "pos-x86"\nruntimes = [{ name = "onnxruntime" }, { name = "litert" }]\n'


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board with two runtimes, for which this machine stands."""
    monkeypatch.setattr(Target, "matches_host", lambda self: (True, "a test"))
    path = tmp_path / "board.toml"
    path.write_text(BOARD)
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_to(**times: float) -> None:
        rows = {name.replace("_", " "): ms for name, ms in times.items()}
        monkeypatch.setattr(race, "measure", stopwatch(rows))

    return set_to


def arrays(model: Model, count: int = 8) -> list[Feeds]:
    return [batch.feeds for batch in samples(model, count)]


def compiled(board: Path, model: Model | None = None, **kwargs: Any) -> Bundle:
    model = model or chain()
    options = {"calibration": arrays(model), "output": board.parent / "out"} | kwargs
    return dsedge.compile(model, target=board, **options)


def rows(bundle: Bundle) -> dict[str, CandidateInfo]:
    return {f"{row.runtime} {row.precision}": row for row in bundle.manifest.candidates}


def chosen(bundle: Bundle) -> list[str]:
    return [name for name, row in rows(bundle).items() if row.chosen]


def test_all_runtimes_are_timed_and_the_fastest_is_shipped(board: Path) -> None:
    """The real race: whoever wins, the table, the artifact and the runtime agree."""
    bundle = compiled(board)
    found = rows(bundle)
    assert set(found) == {f"{name} {kind}" for name in ("onnxruntime", "litert") for kind in ("float32", "int8")}
    assert all(row.median_ms and row.iqr_ms is not None and row.bytes and row.version for row in found.values())
    assert all((row.sqnr_db is None) == (row.precision == "float32") for row in found.values())
    times = [row.median_ms for row in bundle.manifest.candidates]
    assert times == sorted(times)
    (name,) = chosen(bundle)
    manifest = bundle.manifest
    assert name == f"{manifest.runtime.name} {manifest.precision.precision}"
    suffix = {"onnxruntime": ".onnx", "litert": ".tflite"}[manifest.runtime.name]
    assert bundle.file("model").suffix == suffix and bundle.file("model").stat().st_size == found[name].bytes
    fit = [row.median_ms for row in found.values() if row.precision == "int8" and not row.failed]
    assert found[name].median_ms == min(fit) if fit else found[name].precision == "float32"
    assert not [path for path in bundle.path.iterdir() if path.is_dir()]
    assert any(step.name == "litert: calibrate" for step in manifest.passes)
    verify_bundle(bundle)


def test_the_fastest_wins_whichever_the_board_prefers(board: Path, clock: Any) -> None:
    clock(onnxruntime_float32=3.0, onnxruntime_int8=2.0, litert_float32=4.0, litert_int8=1.0)
    bundle = compiled(board)
    assert chosen(bundle) == ["litert int8"] and bundle.manifest.failed == []
    assert rows(bundle)["litert int8"].reason == "the fastest that passes its gates"
    assert rows(bundle)["onnxruntime int8"].reason == "takes 2.00 times as long as the one chosen"
    assert any("litert wants fixed shapes" in note for note in bundle.manifest.notes)
    assert [row.runtime.split()[0] for row in bundle.manifest.latency] == ["onnxruntime", "litert"], "the fastest float"


def test_what_fails_the_accuracy_gate_is_not_timed(board: Path, clock: Any) -> None:
    """LiteRT would be faster, and its INT8 graph is spoilt."""
    clock(litert_int8=0.1, onnxruntime_int8=2.0, onnxruntime_float32=3.0)
    model = chain()
    batches = samples(model, 4, seed=3)
    (reference,) = run(model.graph, batches)

    def evaluate(predict: Any) -> float:
        got = np.concatenate([np.ravel(predict(batch.feeds)[0]) for batch in batches])
        spoilt = got.size and "litert" in predict.__qualname__
        ratio = min(sqnr(reference, got) or 120.0, 120.0)
        return ratio - 100 if spoilt and ratio < 80 else ratio

    bundle = compiled(board, model, evaluate=evaluate, max_drop=100)
    assert chosen(bundle) == ["onnxruntime int8"]
    spoilt = rows(bundle)["litert int8"]
    assert (spoilt.failed, spoilt.median_ms) == (["evaluate_drop"], None)
    assert re.fullmatch(r"\d nodes in float by the accuracy gate: refused: evaluate_drop", spoilt.reason)
    assert rows(bundle)["litert float32"].metric.drop == 0.0, "each runtime is held against its own float artifact"


@pytest.mark.parametrize(
    "times",
    [
        {"onnxruntime_float32": 1.0, "onnxruntime_int8": 2.0, "litert_float32": 3.0, "litert_int8": 4.0},
        # INT8 gains on LiteRT, and is still slower than float on ONNX Runtime.
        {"onnxruntime_float32": 1.0, "onnxruntime_int8": 2.0, "litert_float32": 3.0, "litert_int8": 1.5},
    ],
)
def test_when_float_is_the_fastest_float_is_shipped(board: Path, clock: Any, times: Mapping[str, float]) -> None:
    clock(**times)
    bundle = compiled(board)
    assert chosen(bundle) == ["onnxruntime float32"]
    assert [gate.name for gate in bundle.manifest.failed] == ["latency_vs_float"]
    assert rows(bundle)["onnxruntime float32"].reason == (
        "nothing quantized passes its gates: this is the fastest in float"
    )
    assert rows(bundle)["litert int8"].reason == "slower than the fastest float artifact"
    verify_bundle(bundle)


def test_float_alone_is_raced_too(board: Path, clock: Any) -> None:
    clock(onnxruntime_float32=3.0, litert_float32=2.0)
    bundle = compiled(board, calibration=None, precision="fp32")
    assert chosen(bundle) == ["litert float32"] and bundle.manifest.failed == []
    assert [row.median_ms for row in bundle.manifest.latency] == [2.0]


def test_a_runtime_that_fails_is_a_row_with_its_error(board: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise BuildError("DS401", "the graph cannot be written", hint="a hint")

    monkeypatch.setattr(litert, "build", refuse)
    clock(onnxruntime_float32=3.0, onnxruntime_int8=2.0)
    bundle = compiled(board)
    assert chosen(bundle) == ["onnxruntime int8"] and bundle.manifest.failed == []
    last = bundle.manifest.candidates[-1]
    assert (last.runtime, last.error["code"], last.error["hint"]) == ("litert", "DS401", "a hint")
    monkeypatch.setattr(onnxruntime, "build", lambda *_: (_ for _ in ()).throw(BuildError("DS403", "too large")))
    with pytest.raises(DsedgeError) as caught:
        compiled(board, force=True)
    assert caught.value.code == "DS403", "the preferred runtime's"
    assert bundle.manifest == Bundle(bundle.path).manifest, "the old bundle is untouched"


def test_a_runtime_s_other_precisions_race_too(board: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(onnxruntime_int8=2.0, onnxruntime_fp16=1.0)
    monkeypatch.setattr(onnxruntime, "alternatives", lambda target, graph: ("fp16", "bf16"), raising=False)
    bundle = compiled(board)
    assert chosen(bundle) == ["onnxruntime fp16"] and bundle.manifest.failed == []
    assert bundle.manifest.precision.precision == "fp16" and bundle.manifest.calibration is None
    assert (rows(bundle)["onnxruntime bf16"].error or {})["code"] == "DS146"
    assert "onnxruntime fp16" not in rows(compiled(board, precision="fp32", force=True)), "only beside plain INT8"


def test_accuracy_by_other_kernels_than_the_board_s_is_told(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "matches_host", lambda self: (False, "other kernels"))
    monkeypatch.setattr(assemble, "host_isa", lambda: ("x86_64", frozenset()))
    note = "accuracy and SQNR come from this machine's kernels, not from the board's: other kernels"
    assert note in compiled(board).manifest.notes
    assert note not in compiled(board, precision="fp32", force=True).manifest.notes


def test_a_runtime_without_an_int8_artifact_says_so(
    board: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock(litert_int8=1.0)
    real = portfolio.search
    nothing = Tried(None, {}, 0, [], 0)
    monkeypatch.setattr(
        portfolio, "search", lambda *args, **kw: nothing if args[2].NAME == "onnxruntime" else real(*args, **kw)
    )
    row = rows(compiled(board))["onnxruntime int8"]
    assert row.reason == "nothing in the model can run in INT8 on onnxruntime" and row.bytes is None


def test_operators_that_are_all_small_are_added_up_by_type(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiled = [Cost(f"n{i}", "Conv" if i % 2 else "Add", float(i)) for i in range(40)]
    monkeypatch.setattr(race, "profile", lambda *_: list(reversed(profiled)))
    bundle = compiled(board, runtime="onnxruntime")
    assert [(c.node, c.op, c.operators, c.ms) for c in bundle.manifest.costs] == [
        ("", "Conv", 20, 400.0),
        ("", "Add", 19, 380.0),
    ]
    monkeypatch.setattr(race, "profile", lambda *_: [Cost("slow", "Gemm", 1e3), *profiled])
    assert compiled(board, runtime="onnxruntime", force=True).manifest.costs[0].node == "slow"


def test_a_runtime_that_cannot_is_a_row_and_a_note(board: Path, clock: Any) -> None:
    clock(onnxruntime_float32=3.0, onnxruntime_int8=2.0)
    net = Net(x=("N", 8, "H", 12))
    model = net.model(net.conv(net.conv("x", 16, act="Relu"), 8))
    data = [np.zeros((8, 12, 12), np.float32) + np.float32(i) for i in range(4)]
    bundle = compiled(board, model, calibration=data)
    assert chosen(bundle) == ["onnxruntime int8"]
    assert bundle.manifest.candidates[-1].error["code"] == "DS106"
    assert any(note.startswith("litert was passed over") for note in bundle.manifest.notes)


def test_samples_that_can_be_read_once_reach_every_runtime(board: Path, clock: Any) -> None:
    clock(litert_int8=1.0)
    model = chain()

    def generator() -> Iterator[Feeds]:
        yield from arrays(model, 40)

    bundle = compiled(board, model, calibration=generator())
    assert chosen(bundle) == ["litert int8"]
    assert bundle.manifest.calibration.samples == 40


def test_a_runtime_of_one_s_own_is_the_only_one(board: Path, clock: Any) -> None:
    clock(litert_int8=1.0, onnxruntime_int8=2.0)
    bundle = compiled(board, runtime="onnxruntime")
    assert set(rows(bundle)) == {"onnxruntime float32", "onnxruntime int8"}
    assert any(step.name == "calibrate" for step in bundle.manifest.passes), "names need no runtime"


def test_where_nothing_can_be_measured_the_preferred_one_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = dsedge.compile(chain(), target="raspberry-pi-5", calibration="random", output=out).manifest
    assert manifest.runtime.name == "onnxruntime"
    assert sum("ranked by the target's preference" in note for note in manifest.notes) == 1
    assert {row.runtime: row.median_ms for row in manifest.candidates} == {"onnxruntime": None}
