"""What every shipped board must keep to."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow import samples
from graphs import chain

import dsedge
from dsedge.backends.base import available, is_deferred, load_backend
from dsedge.bundle import Bundle
from dsedge.errors import LoadError
from dsedge.target import known_targets, load_target
from dsedge.verify import verify_bundle

TARGETS = known_targets()
RUNTIMES = {"onnxruntime", "openvino", "litert", "tensorrt", "c"}
KEYS = {
    "model": {"name", "fingerprint", "opset"},
    "target": {"name", "board"},
    "runtime": {"name", "version", "variant"},
    "files": {"path", "sha256", "bytes", "role"},
    "calibration": {"source", "samples", "method", "sha256"},
    "precision": {"int8_ops", "float_ops", "total_ops", "islands"},
    "metrics": {"name", "float", "quantized", "drop", "samples"},
    "fidelity": {"sqnr_db", "max_abs", "top1_agreement"},
    "latency": {"runtime", "precision", "median_ms", "p90_ms", "runs", "threads", "where", "conditions"},
    "gates": {"name", "limit", "value", "passed"},
    "passes": {"name", "seconds", "changed"},
}


@pytest.mark.parametrize("name", TARGETS)
def test_it_loads_and_its_runtimes_are_known(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.title
    runtimes = [r.name for r in target.runtimes]
    assert set(runtimes) <= RUNTIMES
    assert len(runtimes) == len(set(runtimes))
    for runtime in set(runtimes) & set(available()):
        contract = load_backend(runtime).contract(target)
        assert contract.runtime == runtime


@pytest.mark.parametrize("name", TARGETS)
def test_a_small_model_compiles_to_a_verified_bundle(name: str, tmp_path: Path) -> None:
    model = chain()
    data = [batch.feeds for batch in samples(model, 8)]
    dsedge.compile(model, target=name, calibration=data, evaluate=lambda predict: 1.0, output=tmp_path / "out")
    bundle = Bundle(tmp_path / "out")
    manifest = bundle.manifest.to_json()
    assert manifest["schema"] == 1
    on_device = is_deferred(load_backend(manifest["runtime"]["name"]))
    assert manifest["status"] in (("deferred", "checked") if on_device else ("verified",))
    assert (manifest["status"] == "checked") == (on_device and manifest["precision"]["audited"])
    assert {info["role"] for info in manifest["files"]} >= {"model", "golden", "runner", "report"}
    for key, fields in KEYS.items():
        records = manifest[key] if isinstance(manifest[key], list) else [manifest[key]]
        assert records or key == "latency"
        assert all(fields <= set(record) for record in records), key
    precision = manifest["precision"]
    assert precision["int8_ops"] + precision["float_ops"] == precision["total_ops"]
    assert all(set(island) == {"node", "op", "reason"} and island["reason"] for island in precision["islands"])
    assert len(precision["islands"]) == precision["float_ops"]
    assert manifest["target"] == {"name": name, "board": name}
    verify_bundle(bundle)
    target = load_target(name)
    assert bool(manifest["latency"]) == target.matches_host()[0]
    gates = {gate["name"]: gate["passed"] for gate in manifest["gates"]}
    if not target.matches_host()[0]:
        assert gates["latency_vs_float"] is None
        assert precision["int8_ops"] > precision["float_ops"]
        assert precision["audited"] != precision["audit"].startswith("not audited here")


def test_a_board_whose_backend_is_not_there_says_so(tmp_path: Path) -> None:
    board = tmp_path / "bare.toml"
    board.write_text('extends = "raspberry-pi-5"\ntitle = "without an operating system"\nruntimes = [{ name = "c" }]\n')
    with pytest.raises(LoadError) as caught:
        dsedge.compile(chain(), target=board, calibration="random", output=tmp_path / "out")
    assert caught.value.code == "DS144"
    assert "bare runs on c, for which there is no backend" in str(caught.value)
    assert "onnxruntime" in str(caught.value), "which backends there are"
    assert not (tmp_path / "out").exists()
