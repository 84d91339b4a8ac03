"""`--precision` through the whole flow, for boards that this machine does not measure: nothing depends on time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net, chain, image

import dsedge
from dsedge import search
from dsedge.backends.base import Predict
from dsedge.bench.runner import sqnr
from dsedge.bundle import Bundle
from dsedge.errors import BundleError, LoadError
from dsedge.model import Model
from dsedge.report import summary
from dsedge.report.explain import node_view, overview
from dsedge.report.html import render
from dsedge.report.plan import find_node, read_plan
from dsedge.report.terminal import bundle_summary
from dsedge.verify import verify_bundle

BOARD = "raspberry-pi-5"


def network() -> Model:
    """Convolutions and two linear layers, the first of them large."""
    net = image()
    y = net.op("Flatten", net.conv(net.conv("x", 16, act="Relu"), 8, act="Relu"))
    return net.model(net.gemm(net.op("Relu", net.gemm(y, 8 * 144, 256)), 256, 10))


def compiled(tmp_path: Path, precision: str, **options: object) -> Bundle:
    data = [{"x": np.random.default_rng(i).standard_normal((1, 8, 12, 12)).astype(np.float32)} for i in range(8)]
    return dsedge.compile(
        network(), target=BOARD, calibration=data, precision=precision, output=tmp_path / "b", **options
    )


def operators(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.file("model")).graph.node]


def shown(view: object) -> str:
    from rich.console import Console

    console = Console(width=200, file=None, record=True)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


@pytest.mark.parametrize(
    ("precision", "whole", "least_db", "smaller"),
    [
        ("int8", "int8", 25, 3.5),
        ("int8,Gemm=int4", "mixed", 15, 5.0),
        ("int4", "int4", 15, 4.5),
        ("fp16", "fp16", 55, 1.9),
        ("int8,Gemm=fp16", "mixed", 25, 1.9),
    ],
)
def test_what_is_asked_for_is_built_and_verified(
    tmp_path: Path, precision: str, whole: str, least_db: float, smaller: float
) -> None:
    bundle = compiled(tmp_path, precision)
    manifest = bundle.manifest
    found = manifest.precision
    assert (found.precision, found.asked) == (whole, precision)
    assert manifest.failed == []
    assert found.int8_ops + found.int4_ops + found.float_ops == found.total_ops
    assert found.int4_ops == operators(bundle).count("MatMulNBits") == ("int4" in precision)
    assert manifest.fidelity is not None
    assert manifest.fidelity.sqnr_db is not None and manifest.fidelity.sqnr_db > least_db
    assert manifest.float_bytes / bundle.file("model").stat().st_size > smaller
    assert (manifest.calibration is None) == (precision == "fp16")
    verify_bundle(bundle)


def test_float_that_was_asked_for_is_no_failure(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "fp32")
    manifest = bundle.manifest
    assert (manifest.precision.precision, manifest.failed) == ("float32", [])
    assert {i.reason for i in manifest.precision.islands} == {"asked for by --precision fp32"}
    assert manifest.fidelity is not None and manifest.fidelity.sqnr_db is None
    verify_bundle(bundle)


def test_a_part_in_float(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "int8,Gemm=fp32")
    reasons = {i.op: i.reason for i in bundle.manifest.precision.islands}
    assert reasons["Gemm"] == "asked for by --precision Gemm=fp32"
    assert operators(bundle).count("DequantizeLinear") > 0
    assert bundle.manifest.precision.precision == "int8"


def test_the_accuracy_gate_lifts_int4_layers(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def evaluate(predict: Predict) -> float:
        """dB against the first that is judged, the float model; 28 is enough."""
        rng = np.random.default_rng(9)
        got = np.stack([predict({"x": rng.standard_normal((1, 8, 12, 12)).astype(np.float32)})[0] for _ in range(8)])
        seen.append(got)
        return min(sqnr(seen[0], got) or 28.0, 28.0)

    bundle = compiled(tmp_path, "int8,Gemm=int4", evaluate=evaluate, max_drop=0.5)
    assert bundle.manifest.failed == []
    assert (bundle.manifest.precision.precision, bundle.manifest.precision.int4_ops) == ("int8", 0)
    assert any("lifted to float by the accuracy gate" in island.reason for island in bundle.manifest.precision.islands)
    (note,) = [note for note in bundle.manifest.notes if "accuracy gate" in note]
    assert re.match(r"the accuracy gate lifted \d nodes? to float: .*Gemm_5", note)


@pytest.mark.parametrize(("precision", "four"), [("int8,Gemm=int4", True), ("int8", False)])
def test_a_poor_artifact_names_int4_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, four: bool
) -> None:
    monkeypatch.setattr(search, "POOR_DB", 1000.0)
    (note,) = [note for note in compiled(tmp_path, precision).manifest.notes if "outputs are only" in note]
    assert ("with INT4 weights: --precision int8 comes nearer" in note) == four


@pytest.mark.parametrize(
    ("precision", "code"),
    [("bf16", "DS146"), ("int8,nothing=fp32", "DS145"), ("int8;head", "DS145"), ("int8,Conv=int4", "DS146")],
)
def test_what_cannot_be_leaves_nothing_behind(tmp_path: Path, precision: str, code: str) -> None:
    with pytest.raises(LoadError) as caught:
        compiled(tmp_path, precision)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_reports_tell_it(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "int8,Gemm=int4")
    plan = read_plan(bundle)
    summary = shown(bundle_summary(bundle))
    assert "mixed, asked for: int8,Gemm=int4" in summary
    assert "1 of " in summary and " in INT4" in summary
    explained = shown(overview(bundle, plan))
    assert "INT4" in explained and "MatMulNBits" in explained
    (name,) = [node.name for node in plan.nodes if node.precision == "int4"]
    assert "uint4 in blocks of 32 along axis 1 (9216 blocks)" in shown(
        node_view(plan, find_node(plan, name), bundle.manifest)
    )
    page = render(bundle.manifest, json.loads(bundle.file("plan").read_text()))
    assert "INT4 1 (" in page


def test_a_manifest_from_before_is_read(tmp_path: Path) -> None:
    bundle = compiled(tmp_path, "int8")
    path = bundle.path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["precision"]["asked"], manifest["precision"]["int4_ops"]
    path.write_text(json.dumps(manifest))
    assert Bundle(bundle.path).manifest.precision.asked == "int8"
    manifest["precision"]["precision"] = "int3"
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError):
        Bundle(bundle.path)


def test_the_command_line(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    net = Net(x=(1, 512))
    source.write_bytes(net.model(net.gemm("x", 512, 512)).to_bytes())
    command = [sys.executable, "-m", "dsedge", "compile", str(source), "-t", BOARD, "-o", str(tmp_path / "b")]
    done = subprocess.run([*command, "--precision", "int4"], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 in INT4" in done.stdout
    refused = subprocess.run(
        [*command, "--precision", "bf16"], capture_output=True, text=True, check=False, timeout=120
    )
    assert refused.returncode == 2
    assert "DS146" in refused.stderr and "it has fp32, fp16, int8, int8_dynamic, int4" in refused.stderr


def test_fidelity_on_noise_is_said(tmp_path: Path) -> None:
    """Nothing needs calibrating, so no data was asked for; what is compared and shipped as golden is noise then."""
    bundle = dsedge.compile(chain(), target=BOARD, precision="fp16", output=tmp_path / "noise")
    m = bundle.manifest
    assert m.fidelity is not None and m.fidelity.source == "random" and m.calibration is None
    assert sum("random noise, not real data" in note for note in m.notes) == 1
    assert "32 samples of random noise" in summary.fidelity(m)
    rows = np.random.default_rng(0).standard_normal((4, 8, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows)
    m = dsedge.compile(
        chain(), target=BOARD, precision="fp16", calibration=tmp_path / "rows.npz", output=tmp_path / "real"
    ).manifest
    assert m.fidelity is not None and m.fidelity.source == "rows.npz"
    assert "noise" not in summary.fidelity(m) + " ".join(m.notes)


def test_int8_for_what_the_backend_writes_in_other_operators(tmp_path: Path) -> None:
    """A ConvTranspose has no INT8 kernel, and the convolution in its place has: the request is for both."""
    net = Net(x=(1, 8, 12, 12))
    y = net.conv("x", 16)
    y = net.op("ConvTranspose", y, net.weight(16, 16, 2, 2), strides=[2, 2])
    net.channels[y] = 16
    model = net.model(net.conv(y, 8))
    bundle = dsedge.compile(
        model, target=BOARD, precision="fp32,ConvTranspose=int8", calibration="random", output=tmp_path / "out"
    )
    assert bundle.manifest.precision.int8_ops > 0
