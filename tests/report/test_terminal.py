from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

from dsedge.bundle import Bundle, Gate, Manifest
from dsedge.report import summary
from dsedge.report.terminal import bundle_summary, comparison_table, table, verification

HOSTILE = "[red]a[/red][link=http://x]\x1b[31m\nb"
SHOWN = "[red]a[/red][link=http://x]\\x1b[31m\\nb"


def text(content: RenderableType, width: int = 250) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_summary_says_everything(bundle: Callable[..., Bundle]) -> None:
    shown = text(bundle_summary(bundle(notes=["the ranges come from random noise"])))
    for words in (
        "raspberry-pi -> raspberry-pi-5",
        "onnxruntime 1.31.1, variant arm-dotprod",
        "top1 98.61 -> 98.33, drop 0.28 points, 360 samples",
        "SQNR 35.1 dB",
        "400 kB -> 100 kB (x4.0)",
        "4 -> 1.60 ms (x2.50)",
        "6 of 8 in INT8",
        "pass  latency_vs_float 0.4, limit 1.03",
        "note: the ranges come from random noise",
        "net-raspberry-pi-5",
        "all 3 gates pass",
    ):
        assert words in shown, words


def test_candidates_stand_in_a_table(bundle: Callable[..., Bundle], several: Manifest) -> None:
    rows = [row.model_dump() for row in several.candidates]
    costs = [cost.model_dump() for cost in several.costs]
    lines = text(bundle_summary(bundle(candidates=rows, costs=costs))).splitlines()
    assert any("slowest" in line and "QLinearConv 'conv_1' 26%" in line for line in lines)
    winner = next(line for line in lines if line.startswith(" onnxruntime 1.31.1  INT8"))
    for words in ("35.1", "98.33", "1.60", "0.05", "100 kB"):
        assert words in winner, words
    assert any(line.startswith("onnxruntime 1.31.1 INT8  the fastest that passes its gates") for line in lines)
    narrow = text(bundle_summary(bundle("narrow", candidates=rows)), 80).splitlines()
    assert any(re.search(r"98.33 +1.60 +0.05 +100 kB$", line.rstrip()) for line in narrow), (
        "a terminal of 80 columns holds all figures"
    )
    assert any("litert 2.3.0" in line and "slower than the fastest float" in line for line in lines)
    assert any("openvino 2026.2" in line and "DS401: the graph cannot be written" in line for line in lines)
    assert "IQR" not in text(bundle_summary(bundle("one", candidates=rows[:1]))), "one artifact: nothing to choose"


def test_why_a_runtime_has_no_int8_and_what_was_not_timed(bundle: Callable[..., Bundle], several: Manifest) -> None:
    reason = "nothing in the model can run in INT8 on litert"
    rows: list[dict[str, Any]] = [
        several.candidates[0].model_dump() | {"median_ms": None, "iqr_ms": None},
        {"runtime": "litert", "version": "2.3.0", "precision": "int8", "reason": reason},
    ]
    shown = text(bundle_summary(bundle(candidates=rows)), 80)
    assert f"litert 2.3.0 INT8        {reason}" in shown and "not timed here" in shown


def test_tables_fold_between_words_and_are_never_cut() -> None:
    rows = [
        ("node_Conv_124", "GlobalAveragePool", "RESHAPE #1, CONV_2D #2", "INT8", "CONV_2D or DEPTHWISE_CONV_2D, per")
    ]
    shown = text(table(("operator", "type", "becomes", "precision", "because"), rows), 80)
    words = shown.split()
    assert set("node_Conv_124 GlobalAveragePool RESHAPE CONV_2D DEPTHWISE_CONV_2D, because".split()) <= set(words)
    narrow = text(table(("operator", "because"), [("a" * 60, "b" * 60)]), 40)
    assert narrow.count("a") == 62 and narrow.count("b") == 61, "letters fold, and none is lost"


def test_units_and_bounds_of_metrics(manifest: Callable[..., Manifest]) -> None:
    sqnr = {"name": "sqnr", "float": 200.0, "quantized": 26.64, "drop": 4.66, "samples": 8}
    [line] = summary.accuracy(manifest(metrics=[sqnr]))
    assert line == "sqnr identical -> 26.64 dB, drop 4.66 percent of noise, 8 samples"
    gate = Gate(name="sqnr_drop", limit=10, value=4.66, passed=True)
    assert (summary.value(gate), summary.limit(gate)) == ("4.66 percent of noise", "10 percent of noise")


def test_the_float_artifact_is_not_praised_for_being_itself(manifest: Callable[..., Manifest]) -> None:
    made = manifest(
        precision=manifest().precision.model_dump() | {"precision": "float32", "int8_ops": 0, "float_ops": 8}
    )
    assert summary.accuracy(made) == ["top1 98.61, the float artifact's, 360 samples"]
    assert summary.fidelity(made).startswith("identical: the float artifact is")
    assert summary.operators(made) == "8 in float"


def test_the_float_baseline_of_another_runtime_is_named(manifest: Callable[..., Manifest]) -> None:
    rows = [row.model_dump() for row in manifest().latency]
    rows[1]["runtime"] = "litert 2.3.0"
    assert summary.latency(manifest(latency=rows)) == "4 ms (onnxruntime 1.31.1 float) -> 1.60 ms (x2.50)"


def test_costs_without_a_profiler_and_by_type(manifest: Callable[..., Manifest]) -> None:
    assert summary.costs(manifest(), 3) == "not known: onnxruntime has no profiler"
    by_type = [{"node": "", "op": "Conv", "operators": 53, "ms": 2.0, "share": 0.9}]
    assert summary.costs(manifest(costs=by_type), 3) == "Conv 53 operators 90%"
    assert summary.costs(manifest(latency=[]), 3) == ""


def test_the_distance_from_the_graph_is_told_in_steps(bundle: Callable[..., Bundle]) -> None:
    near = {"sqnr_db": 35.1, "max_abs": 0.1, "top1_agreement": None, "samples": 4, "reference_sqnr_db": 35.0}
    steps = [{"max": 1, "exact": 0.984}, None, {"max": 2, "exact": 0.991}]
    fidelity = near | {"golden_sqnr_db": [35.0], "golden_agreement": [1.0], "golden_steps": steps}
    assert "2 LSB at most from its own Q/DQ graph, 98.4% exact" in text(bundle_summary(bundle(fidelity=fidelity)))


def test_what_was_not_measured_is_no_pass(bundle: Callable[..., Bundle], unmeasured: Manifest) -> None:
    given = {"latency": [], "gates": [g.model_dump() for g in unmeasured.gates], "metrics": []}
    shown = text(bundle_summary(bundle(**given)))
    assert "not measured here: another architecture" in shown
    assert "not measured: no evaluation data" in shown
    assert "1 of 2 gates pass, 1 not measured" in shown
    assert summary.verdict(unmeasured) == "1 of 2 gates pass, 1 not measured"


def test_a_failed_gate_is_named(manifest: Callable[..., Manifest]) -> None:
    gates = [
        {"name": "top1_drop", "limit": 0.5, "value": 3.0, "passed": False},
        {"name": "latency_vs_float", "limit": 1, "value": None, "passed": None},
    ]
    assert summary.verdict(manifest(gates=gates)) == "1 gate of 2 failed: top1_drop"


def test_dynamic_int8_and_float_artifacts_have_a_latency(manifest: Callable[..., Manifest]) -> None:
    precision = manifest().precision.model_dump()
    dynamic = manifest(precision=precision | {"precision": "int8_dynamic"})
    assert summary.latency(dynamic) == "4 -> 1.60 ms (x2.50)"
    assert summary.latency(manifest(precision=precision | {"precision": "float32"})) == "4 ms"


def test_names_are_not_markup(bundle: Callable[..., Bundle]) -> None:
    data = bundle().manifest.to_json()
    shown = text(bundle_summary(bundle("b", model=data["model"] | {"name": HOSTILE}, notes=[HOSTILE])))
    assert shown.count(SHOWN) == 2
    assert "\x1b" not in shown


def test_comparison_has_a_row_for_each_bundle(bundle: Callable[..., Bundle], unmeasured: Manifest) -> None:
    gates = [g.model_dump() for g in unmeasured.gates]
    x86 = {"target": {"name": "pos-x86", "board": "pos-x86"}}
    precision = unmeasured.precision.model_dump() | {"audited": False}
    rows = [bundle("b", **x86), bundle("a", latency=[], gates=gates, precision=precision)]
    lines = text(comparison_table(rows)).splitlines()
    [of_x86] = [line for line in lines if "pos-x86" in line]
    [of_pi] = [line for line in lines if "raspberry-pi-5" in line]
    assert "top1 98.61 -> 98.33" in of_x86 and "4 -> 1.60 ms" in of_x86 and " 6 of 8 " in of_x86
    assert "not measured" in of_pi and "another architecture" not in of_pi and "not audited here" in of_pi


def test_verification(bundle: Callable[..., Bundle]) -> None:
    found: dict[str, Any] = {"sqnr_db": [None], "identical": [True], "max_abs_from_expected": 0.0, "samples": 4}
    found["agreement"] = [1.0]
    made = bundle()
    shown = text(verification(made, found))
    assert "no difference on 4 golden samples" in shown and "2 files" in shown and "100.0%" not in shown
    assert "50.0% of the lengths of y" in text(verification(made, {**found, "agreement": [0.5]}))
    ids = made.manifest.model.model_dump() | {"outputs": [{"name": "ids", "dtype": "int64", "shape": [1]}]}
    made = bundle("ids", model=ids)
    assert "100.0% of the values of ids" in text(verification(made, found))
    assert "no difference" not in text(verification(made, {**found, "identical": [False]}))


def test_a_bundle_that_its_device_finishes(bundle: Callable[..., Bundle], deferred: dict[str, Any]) -> None:
    made = bundle("net-jetson", **deferred)
    lines = text(bundle_summary(made)).splitlines()
    assert any(re.match(r"size .*, of the graph", line) for line in lines)
    assert any(line.startswith("status") and "deferred: the device builds the engine" in line for line in lines)
    for line, words in zip(
        lines[-3:], ("python3 build.py", "python3 verify.py --compare", f"dsedge verify {made.path}"), strict=True
    ):
        assert line.rstrip().endswith(words), line
    measured = text(bundle_summary(bundle("measured", **deferred | {"status": "measured"})))
    assert "build.py" not in measured and "timed on the device" in measured
    assert "of the graph" not in text(bundle_summary(bundle()))


def test_layouts_of_the_interface(bundle: Callable[..., Bundle]) -> None:
    shown = text(bundle_summary(bundle()))
    assert "x: float32, batch x 3 x ? NCW" in shown and "y: float32, unknown" in shown


def test_integers_have_no_sqnr(manifest: Callable[..., Manifest]) -> None:
    near = manifest().fidelity
    assert near is not None
    whole = near.model_dump() | {"sqnr_db": None, "max_abs": 0.0, "top1_agreement": None}
    assert summary.fidelity(manifest(fidelity=whole | {"equal": 0.95})) == "95.0% of non-float values equal, 32 samples"
    assert summary.fidelity(manifest(fidelity=whole | {"equal": 1.0})) == "identical outputs, 32 samples"
    both = summary.fidelity(manifest(fidelity=near.model_dump() | {"equal": 0.95}))
    assert both.startswith("SQNR 35.1 dB, max abs difference 0.21, 95.0% of non-float values equal")
