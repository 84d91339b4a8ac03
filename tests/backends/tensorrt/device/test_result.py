"""What comes back from a device is outside data: it is read strictly, and only when it is about this bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsedge.backends.tensorrt.result import MOST_BYTES, read_result
from dsedge.backends.tensorrt.summary import result
from dsedge.bundle import sha256
from dsedge.errors import BundleError, DsedgeError, VerifyError
from tests.backends.tensorrt.device.bundles import of_a_compiled_one

TIMES = {"median_ms": 1.0, "p90_ms": 1.1, "p99_ms": 1.2, "min_ms": 0.9, "runs": 200}


@pytest.fixture
def folder(bundle_folder: Path) -> Path:
    """A bundle with a good result in it."""
    made = of_a_compiled_one(bundle_folder)
    manifest, settings = (json.loads((made / name).read_text()) for name in ("manifest.json", "build.json"))
    reached = manifest["fidelity"]["golden_sqnr_db"]
    seen = ("build.json", "golden.npz", "model.fp16.onnx")
    result = {
        "schema": 1,
        "status": "measured",
        "created": "2026-01-01T00:00:00+00:00",
        "seen": {**{name: sha256(made / name) for name in seen}, "engine.plan": "a" * 64},
        "tensorrt": "10.3.0",
        "made_by": "tensorrt",
        "gpu": {"name": "A GPU", "compute_capability": "8.7", "model": None, "memory_mib": 7620},
        "os": "Linux aarch64",
        "flags": ["STRONGLY_TYPED"],
        "tf32": True,
        "build_seconds": 61.5,
        "golden": {
            "sqnr_db": reached,
            "identical": [False] * len(reached),
            "numbers": [40] * len(reached),
            "agreement": [1.0] * len(reached),
            "max_abs_from_expected": 0.1,
        },
        "int8": settings["int8_nodes"],
        "not_int8": {},
        "unknown": {},
        "dla": {"core": None, "on_dla": 0, "on_gpu": 3},
        "latency": {"int8": {"host": TIMES, "device": TIMES}},
        "timing": {
            "shapes": {"x": [1, 2]},
            "warmup": 20,
            "order": "in turns",
            "device": "events",
            "host": "with copies",
        },
        "conditions": {"before": {"power_mode": "MAXN"}, "after": {}},
        "warnings": [],
    }
    (made / "device.json").write_text(json.dumps(result))
    return made


def refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> DsedgeError:
    result = json.loads((folder / "device.json").read_text())
    change(result)
    (folder / "device.json").write_text(json.dumps(result))
    with pytest.raises(DsedgeError) as caught:
        read_result(folder)
    return caught.value


def test_a_good_result_is_read(folder: Path) -> None:
    result = read_result(folder)
    assert result.status == "measured" and result.latency["int8"].device.median_ms == 1.0


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda r: r.update(status="perfect"), "field 'status'"),
        (lambda r: r.update(more=1), "field 'more'"),
        (lambda r: r["latency"]["int8"]["device"].update(median_ms=float("nan")), "NaN is no number"),
        (lambda r: r["latency"]["int8"]["device"].update(median_ms=-1.0), "median_ms"),
        (lambda r: r["golden"].update(max_abs_from_expected=float("inf")), "Infinity is no number"),
        (lambda r: r["seen"].update({"golden.npz": "0" * 64}), "it is about another golden.npz"),
        (lambda r: r["seen"].update({"model.fp16.onnx": "0" * 64}), "it is about another model.fp16.onnx"),
        (lambda r: r["seen"].pop("build.json"), "which files"),
        (lambda r: r["seen"].update({"../../etc/passwd": "0" * 64}), "which files"),
        (lambda r: r["gpu"].update(compute_capability="9.0"), "it calls a A GPU the target, and its compute"),
        (lambda r: r["gpu"].update(name="NVIDIA A30"), "it calls a NVIDIA A30 the target, and it calls itself"),
        (lambda r: r["gpu"].update(memory_mib=30000), "it has 30000 MiB"),
        (lambda r: r.update(tensorrt="12.1"), "TensorRT 12.1 ran the engine, and the target has >=8.5,<12"),
        (lambda r: r["unknown"].update({r["int8"][0]: "?"}), "nodes are not those of the plan"),
        (lambda r: r["int8"].pop(), "nodes are not those of the plan"),
        (lambda r: r["not_int8"].update(other="?"), "nodes are not those of the plan"),
        (lambda r: r.update(latency={}), "no latency of the bundle's own engine"),
        (lambda r: r["latency"].update(int4=r["latency"]["int8"]), "does not compare with"),
        (lambda r: r["golden"].update(sqnr_db=[], agreement=[], numbers=[]), "outputs are not those of the model"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], because: str) -> None:
    error = refused(folder, change)
    assert isinstance(error, BundleError) and error.code == "DS803" and because in (error.because or "")


def test_a_graph_that_reached_less_is_judged_by_that(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    less = [ratio - 12 for ratio in manifest["fidelity"]["golden_sqnr_db"]]
    error = refused(folder, lambda r: r["golden"].update(sqnr_db=less, numbers=[10**6] * len(less)))
    assert error.code == "DS501"
    settings = json.loads((folder / "build.json").read_text())
    settings["graphs"][1]["golden_sqnr_db"] = less
    assert settings["graphs"][1]["file"] == "model.fp16.onnx"
    (folder / "build.json").write_text(json.dumps(settings))
    result = json.loads((folder / "device.json").read_text())
    result["seen"]["build.json"] = sha256(folder / "build.json")
    (folder / "device.json").write_text(json.dumps(result))
    assert read_result(folder).golden.sqnr_db == less


def test_the_order_of_keys_says_nothing(folder: Path) -> None:
    file = json.loads((folder / "device.json").read_text())
    for kind, median in (("fp32", 4.0), ("fp16", 2.0), ("int8", 1.0)):
        file["latency"].pop(kind, None)  # the bundle's own last
        file["latency"][kind] = {"host": TIMES, "device": {**TIMES, "median_ms": median}}
    (folder / "device.json").write_text(json.dumps(file))
    run = result(folder)
    assert run is not None
    assert [(row.precision, row.median_ms) for row in run.latency] == [
        ("int8", 1.0),
        ("float16", 2.0),
        ("float32", 4.0),
    ]


def test_golden_outputs_that_are_off_are_an_error_of_their_own(folder: Path) -> None:
    error = refused(folder, lambda r: r["golden"].update(sqnr_db=[-300.0] * len(r["golden"]["sqnr_db"])))
    assert isinstance(error, VerifyError) and error.code == "DS501"


@pytest.mark.parametrize("text", [None, "{", '{"schema": 2}'])
def test_a_bundle_without_settings_is_refused(folder: Path, text: str | None) -> None:
    (folder / "build.json").unlink()
    if text is not None:
        (folder / "build.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        read_result(folder)
    assert caught.value.code == "DS803" and "does not say how an engine is built" in caught.value.what


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (b"{", "Expecting"),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", "utf-8"),
        (b" " * (MOST_BYTES + 1), "larger than 8 MiB"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_result(folder: Path, data: bytes | None, because: str) -> None:
    (folder / "device.json").unlink()
    if data is not None:
        (folder / "device.json").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        read_result(folder)
    assert caught.value.code == "DS803" and because in (caught.value.because or "")
