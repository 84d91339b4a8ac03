from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from dsedge.bundle import Manifest
from dsedge.report.html import render
from dsedge.report.markup import tag

HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b\u202e"
VOID = {"meta", "rect", "line"}


class Page(HTMLParser):
    """Collects elements and text, and checks that elements close in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(document)
        self.close()
        assert not self.open, "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def poisoned(data: Any) -> Any:
    """Every string that is not one of the manifest's fixed words becomes hostile, keys of free mappings included."""
    fixed = {"verified", "int8", "model", "golden"}
    if isinstance(data, dict):
        return {key: poisoned(value) for key, value in data.items()}
    if isinstance(data, list):
        return [poisoned(item) for item in data]
    return HOSTILE if isinstance(data, str) and data not in fixed else data


def test_hostile_names_stay_text(several: Manifest, plan: dict[str, Any]) -> None:
    several = several.model_copy(update={"notes": ["a note"]})
    data = poisoned(several.to_json())
    data["latency"][0]["conditions"] = {HOSTILE: HOSTILE}
    data["candidates"][1]["runtime"] += "another"
    clean = Page(render(several, plan))
    attacked = Page(render(Manifest.model_validate(data), poisoned(plan)))
    kinds = {name for name, _ in attacked.elements}
    assert kinds <= {name for name, _ in clean.elements}, "the hostile strings made an element"
    attributes = {key for _, given in attacked.elements for key in given}
    assert attributes == {key for _, given in clean.elements for key in given}
    assert "alert(1)" in attacked.text
    assert not {"\x1b", "\u202e"} & set(attacked.text)


def test_conditions_in_which_artifacts_differ_are_all_told(
    manifest: Callable[..., Manifest], plan: dict[str, Any]
) -> None:
    data = manifest().to_json()
    for row, precision in zip(data["latency"], ("f32", "bf16"), strict=True):
        row["conditions"] |= {"inference_precision": precision, "streams": 1}
    text = " ".join(Page(render(Manifest.model_validate(data), plan)).text.split())
    assert "inference precision f32, bf16 streams 1" in text
    assert "governor not known" in text


def test_nothing_is_loaded_from_elsewhere(manifest: Callable[..., Manifest], plan: dict[str, Any]) -> None:
    document = render(manifest(), plan)
    page = Page(document)
    assert not {"script", "link", "img", "iframe", "object"} & {name for name, _ in page.elements}
    assert not {"src", "href"} & {key for _, given in page.elements for key in given}
    assert not re.search(r"url\(|@import|https?://", document)
    policies = [given["content"] for _, given in page.elements if given.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_bars_are_in_proportion(manifest: Callable[..., Manifest], plan: dict[str, Any]) -> None:
    page = Page(render(manifest(), plan))
    bars = [given for name, given in page.elements if name == "rect" and given["height"] == "18" and "rx" in given]
    widths = {given["class"]: float(given["width"] or 0) for given in bars}
    assert abs(widths["float"] / widths["int8"] - 4.0 / 1.6) < 0.01


def test_candidates_are_drawn_and_listed(several: Manifest, plan: dict[str, Any]) -> None:
    page = Page(render(several, plan))
    bars = [given for name, given in page.elements if name == "rect" and given["height"] == "18" and "rx" in given]
    one, other = (float(given["width"] or 0) for given in bars[:2])
    assert abs(other / one - 2.0) < 0.01 and len(bars) == 4, "what was not timed has no bar"
    for words in (
        "conv_1",
        "QLinearConv",
        "25.6",
        "litert INT8",
        "slower than the fastest float artifact",
        "DS401: the graph cannot be",
    ):
        assert words in page.text, words


def test_everything_is_told(manifest: Callable[..., Manifest], plan: dict[str, Any]) -> None:
    shown = Page(render(manifest(notes=["lifted to float"]), plan)).text
    for words in ("all 3 gates pass", "98.33", "35.1 dB", "calib.npz", "cd" * 32, "bn_3 not folded", "lifted to float"):
        assert words in shown, words
    assert "softmax_1, softmax_2" in shown, "islands with one reason stand in one row"
    assert "CONV_2D" not in shown and "batch x 3 x ?" in shown
    plan["nodes"][0]["lowered"] = "CONV_2D"
    codes = {"name": "x", "dtype": "int8", "shape": [1, 4], "layout": None, "scale": 0.5, "zero_point": -3}
    made = manifest()
    made = made.model_copy(update={"model": made.model.model_copy(update={"inputs": [codes]})})
    shown = Page(render(made, plan)).text
    assert "CONV_2D" in shown and "int8, scale 0.5, zero point -3" in shown


def test_what_was_not_measured_is_said(unmeasured: Manifest) -> None:
    shown = Page(render(unmeasured.model_copy(update={"metrics": [], "fidelity": None, "calibration": None}), {})).text
    assert "Not measured here: another architecture." in shown
    assert "no evaluation data was given" in shown
    assert "1 of 2 gates pass, 1 not measured" in shown


def test_what_the_device_must_do_is_told(
    manifest: Callable[..., Manifest], deferred: dict[str, Any], plan: dict[str, Any]
) -> None:
    shown = Page(render(manifest(**deferred), plan)).text
    for words in (
        "python3 build.py",
        "verify.py --compare",
        "device.json",
        "what the engine is built with",
        "measured",
    ):
        assert words in shown, words
    assert "of the graph" in shown and "On the device" not in Page(render(manifest(), plan)).text
    reported = Page(render(manifest(**deferred | {"status": "measured"}), plan)).text
    assert "python3 build.py" not in reported and "what the engine is built with" in reported


def test_a_column_without_an_entry_is_left_out(several: Manifest, plan: dict[str, Any]) -> None:
    rows = [row.model_copy(update={"iqr_ms": None}) for row in several.candidates]
    assert "IQR" in Page(render(several, plan)).text.partition("Latency")[0]
    assert "IQR" not in Page(render(several.model_copy(update={"candidates": rows}), plan)).text.partition("Latency")[0]


def test_attributes_are_escaped() -> None:
    assert tag("td", "<b>", class_='"><script>') == '<td class="&quot;&gt;&lt;script&gt;">&lt;b&gt;</td>'


def test_what_a_reader_would_take_for_a_failure(manifest: Callable[..., Manifest], plan: dict[str, Any]) -> None:
    unused = {"source": "calib.npz", "samples": 0, "method": "percentile", "sha256": None}
    shown = Page(render(manifest(calibration=unused), plan)).text
    assert "not used" in shown and "percentile" not in shown
    assert "Not known: onnxruntime has no profiler." in shown
    half = manifest().precision.model_dump() | {"precision": "fp16", "int8_ops": 0, "float_ops": 8, "fp16_ops": 3}
    shown = Page(render(manifest(precision=half), plan)).text
    assert "3 of 8 in FP16 (stored)" in shown and "in INT8" not in shown.partition("What runs")[0]
