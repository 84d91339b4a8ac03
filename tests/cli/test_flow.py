"""The verbs on a real model and a real runtime, in the order people use them."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"


def dsedge(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsedge", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def compile_digits(output: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
    data = ("--calib", DIGITS / "calibration.npz", "-o", output)
    return dsedge("compile", DIGITS / "digits_cnn.onnx", "-t", "raspberry-pi", *data, *more)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DSEDGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("bundles") / "digits"
    done = compile_digits(output, "--eval", DIGITS / "evaluation.npz", "--max-drop", "0.5", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["failed"] == []
    manifest = printed["manifest"]
    assert manifest == json.loads((output / "manifest.json").read_text())
    assert manifest["target"] == {"name": "raspberry-pi", "board": "raspberry-pi-5"}
    assert [m["name"] for m in manifest["metrics"]] == ["top1"]
    return output


def test_the_summary(tmp_path: Path) -> None:
    done = compile_digits(tmp_path / "b")
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("raspberry-pi -> raspberry-pi-5", "no evaluation data was given", "SQNR", "kB (x", str(tmp_path)):
        assert words in done.stdout, words


def test_a_failed_gate_is_exit_code_1(tmp_path: Path) -> None:
    target = tmp_path / "tiny.toml"
    target.write_text('extends = "pos-x86"\n[budgets]\nsize_mb = 0.001\n')
    data = ("--calib", DIGITS / "calibration.npz", "-o", tmp_path / "b")
    done = dsedge("compile", DIGITS / "digits_cnn.onnx", "-t", target, "--runtime", "onnxruntime", *data)
    assert done.returncode == 1, done.stderr
    assert "FAIL  size_mb" in done.stdout and re.search(r"gates? of \d failed: .*size_mb", done.stdout)
    assert (tmp_path / "b" / "manifest.json").is_file()


def test_an_existing_folder_is_refused(bundle: Path) -> None:
    done = compile_digits(bundle)
    assert done.returncode == 2
    assert "error[DS801]" in done.stderr and "--force" in done.stderr


def test_explain(bundle: Path) -> None:
    done = dsedge("explain", bundle)
    assert done.returncode == 0, done.stderr
    assert "QLinearConv" in done.stdout and "onnxruntime/arm-dotprod" in done.stdout
    plan = json.loads(dsedge("explain", bundle, "--json").stdout)["plan"]
    node = next(n for n in plan["nodes"] if n["op"] == "Conv")
    done = dsedge("explain", bundle, node["name"])
    assert done.returncode == 0 and "reads" in done.stdout and "writes" in done.stdout
    values = json.loads(dsedge("explain", bundle, node["name"], "--json").stdout)["values"]
    assert all(value["scale"] > 0 and value["dtype"] == "int8" for value in values)
    done = dsedge("explain", bundle, node["name"] + "x")
    assert done.returncode == 2 and f"did you mean '{node['name']}'" in done.stderr
    assert "candidates, not timed here" in dsedge("explain", bundle).stdout


def test_inspect_model_and_bundle(bundle: Path) -> None:
    of_model = json.loads(dsedge("inspect", DIGITS / "digits_cnn.onnx", "--json").stdout)
    of_bundle = json.loads(dsedge("inspect", bundle, "--json").stdout)
    assert of_model["macs"] == of_bundle["macs"] > 0
    assert of_bundle["parameters"]["int8"]["count"] > 90_000
    done = dsedge("inspect", bundle)
    assert done.returncode == 0 and "image: float32[batch, 1, 8, 8] NCHW" in done.stdout
    assert "error[DS804]" in dsedge("inspect", DIGITS).stderr


def test_verify_and_tampering(bundle: Path, tmp_path: Path) -> None:
    done = dsedge("verify", bundle)
    assert done.returncode == 0, done.stderr
    assert "every sha256 as written" in done.stdout and "dB on 4 golden samples" in done.stdout
    found = json.loads(dsedge("verify", bundle, "--json").stdout)
    assert (found["status"], found["runtime"]["name"], found["files"]) == ("verified", "onnxruntime", 5)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    done = dsedge("verify", copy, "--json")
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "DS803"


def test_progress_goes_to_the_terminal_only(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "dsedge", "compile", DIGITS / "digits_cnn.onnx", "-t", "raspberry-pi-5"]
    command += ["--calib", DIGITS / "calibration.npz", "-o", tmp_path / "b"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=False, timeout=120)
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # Linux ends a terminal that nobody holds open with EIO
            break
        shown += piece
    os.close(controller)
    assert done.returncode == 0
    assert b"baseline" in shown or b"calibrate" in shown or b"normalize" in shown
    assert done.stdout.startswith("model ")
