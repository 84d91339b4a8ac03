from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, RenderableType

from dsedge.bundle import Bundle, Manifest
from dsedge.report import summary
from dsedge.report.terminal import bundle_summary, comparison_table, verification

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
        "top1 98.61 -> 98.33, drop 0.28, 360 samples",
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
    winner = next(line for line in lines if line.startswith(" onnxruntime 1.31.1   INT8"))
    for words in ("35.1", "98.33", "1.60", "0.05", "100 kB"):
        assert words in winner, words
    assert any(line.startswith("onnxruntime 1.31.1 INT8  the fastest that passes its gates") for line in lines)
    narrow = text(bundle_summary(bundle("narrow", candidates=rows)), 80).splitlines()
    assert any(re.search(r"98.33 +1.60 +0.05 +100 kB$", line.rstrip()) for line in narrow), (
        "a terminal of 80 columns holds all figures"
    )
    assert any("litert 2.3.0" in line and "slower than the fastest float" in line for line in lines)
    assert any("openvino 2026.2" in line and "DS401: the graph cannot be written" in line for line in lines)
    assert "IQR" not in text(bundle_summary(bundle("one", candidates=rows[:1]))), "one runtime: nothing to choose"


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
    found: Mapping[str, Any] = {"sqnr_db": [None], "max_abs_from_expected": 0.0, "agreement": [1.0]}
    shown = text(verification(bundle(), found))
    assert "no difference" in shown and "100.0%" in shown and "2 files" in shown
