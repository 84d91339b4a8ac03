"""`dsedge compile --emit triton`: batching as the bundle's own profiles and graphs allow it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from deferred import refused
from graphs import Net
from typer.testing import CliRunner

import dsedge
from dsedge.bundle import Bundle
from dsedge.cli.compile import compile_
from dsedge.emit.triton import write_repository
from tests.backends.tensorrt.device.bundles import cuda_library, device, stand_in

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"
NO_LITERT = "LiteRT is not installed: pip install '.[litert]'"
APP = typer.Typer()
APP.command()(compile_)


def run(output: Path, *options: str) -> str:
    given = [DIGITS / "digits_cnn.onnx", "--calib", DIGITS / "calibration.npz", "-o", output, *options]
    done = CliRunner().invoke(APP, [str(each) for each in given], env={"COLUMNS": "1000"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def config(repository: Path, model: str = "digits_cnn") -> str:
    return (repository / model / "config.pbtxt").read_text()


def test_a_fixed_batch_says_how_to_open_it(tmp_path: Path) -> None:
    said = run(tmp_path / "fixed", "-t", "t4", "--emit", "triton")
    text = config(tmp_path / "fixed-triton")
    assert "max_batch_size: 0\n" in text and "dims: [ 1, 1, 8, 8 ]" in text and "dynamic_batching" not in text
    _, _, option = said.partition("compile a model whose batch axis is open with ")
    options = shlex.split(option.partition(" for up to 32")[0])
    assert options == ["--shape", "image=1:8:32,1,8,8"]
    printed = json.loads(run(tmp_path / "open", "-t", "t4", "--emit", "triton", "--json", *options))
    repository = tmp_path / "open-triton"
    assert printed["emitted"] == {
        "repository": str(repository),
        "model": "digits_cnn",
        "missing": ["digits_cnn/1/model_t4.plan"],
        "notes": [],
    }
    text = config(repository)
    assert "max_batch_size: 32\n" in text and "preferred_batch_size: [ 8 ]" in text
    for name in ("model.fp32.onnx", "model.fp16.onnx"):  # what the engine will have is what the configuration says
        graph = onnx.load(repository / "digits_cnn" / "bundles" / "t4" / name).graph
        for value, kind in ((graph.input[0], "input"), (graph.output[0], "output")):
            dims = [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
            lines = (f'name: "{value.name}"', "data_type: TYPE_FP32", f"dims: [ {', '.join(map(str, dims))} ]")
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            assert f"{kind} {{\n  " + "\n  ".join(lines) in text


def test_openvino_is_not_asked_to_stack(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install '.[openvino]'")
    said = run(tmp_path / "b", "-t", "pos-x86", "--runtime", "openvino", "--emit", "triton")
    model = tmp_path / "b-triton" / "digits_cnn"
    text = config(tmp_path / "b-triton")
    assert "note: requests are not stacked: Triton's openvino backend" in said
    assert "max_batch_size: 0\n" in text and "dims: [ -1, 1, 8, 8 ]" in text and "kind: KIND_CPU" in text
    assert {path.name for path in (model / "1").iterdir()} == {"model.xml", "model.bin"}
    error = refused(lambda: write_repository([Bundle(tmp_path / "b")], tmp_path / "r", max_batch=8))
    assert error.code == "DS401" and "exactly max_batch_size rows" in str(error)


def test_the_bundles_own_script_builds_the_engine_that_triton_loads(tmp_path: Path) -> None:
    """On stand-ins for the driver and for trtexec; what is between them is what a GPU's machine runs."""
    run(tmp_path / "b", "-t", "t4", "--emit", "triton")
    model = tmp_path / "b-triton" / "digits_cnn"
    stand_in(tmp_path, "nvidia-smi", "echo 7.5")
    gpu = {"TRTEXEC_VERSION": "100600", "TRTEXEC_GPU": "7.5", "GPU_CAPABILITY": "7.5", "PYTHON": sys.executable}
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), **gpu)
    command = ["sh", str(model / "build.sh")]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (model / "1").iterdir()] == ["model_t4.plan"]
    assert (model / "1" / "model_t4.plan").read_bytes() == b"engine"
    Bundle(model / "bundles" / "t4").check_files()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--emit", "tritn"], "no form 'tritn'"),
        (["--emit", "triton", "--runtime", "litert"], "no backend for litert"),
        (["--emit", "triton", "-t", "pos-armv7"], "no backend for litert, and pos-armv7 runs on nothing else"),
    ],
)
def test_a_form_is_refused_before_any_work(tmp_path: Path, options: list[str], said: str) -> None:
    if "-t" in options:
        pytest.importorskip("ai_edge_litert", reason=NO_LITERT)
    error = refused(lambda: run(tmp_path / "b", "-t", "pos-x86", *options))
    assert error.code == "DS145" and said in str(error) and not list(tmp_path.glob("b*"))


@pytest.mark.parametrize("there", [["-o", "b"], ["-o", "b", "--force"], []])
def test_a_place_that_is_taken_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Path("b-triton" if there else "build/digits_cnn-t4-triton") / "digits_cnn"
    model.mkdir(parents=True)  # not one that dsedge wrote: --force does not replace it
    given = [DIGITS / "digits_cnn.onnx", "--calib", DIGITS / "calibration.npz", "-t", "t4", "--emit", "triton", *there]
    error = refused(lambda: CliRunner().invoke(APP, [str(each) for each in given], catch_exceptions=False))
    assert (error.code, error.where) == ("DS801", str(model)) and list(model.parent.parent.iterdir()) == [model.parent]
    model.rmdir()
    model.parent.rmdir()
    model.parent.write_text("")
    error = refused(lambda: CliRunner().invoke(APP, [str(each) for each in given], catch_exceptions=False))
    assert (error.code, error.where) == ("DS802", str(model.parent))


def test_a_bundle_stays_where_a_runtime_won_that_triton_has_not(tmp_path: Path) -> None:
    """The target lists one that Triton has, so it is known only when all is done."""
    pytest.importorskip("ai_edge_litert", reason=NO_LITERT)
    given = [
        DIGITS / "digits_cnn.onnx",
        "--calib",
        DIGITS / "calibration.npz",
        "-t",
        "android-arm64",
        "-o",
        tmp_path / "b",
    ]
    command = [sys.executable, "-m", "dsedge", "compile", *map(str, given), "--emit", "triton", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == 2 and error["code"] == "DS145" and "no backend for litert" in error["what"]
    assert "--runtime onnxruntime" in error["hint"] and f"the bundle was written: {tmp_path / 'b'}" in error["hint"]
    assert Bundle(tmp_path / "b").manifest.runtime.name == "litert" and not (tmp_path / "b-triton").exists()


def test_engines_must_take_the_same_lengths(tmp_path: Path) -> None:
    net = Net(x=("N", "L", 4))
    model = net.model(net.op("Relu", net.op("MatMul", "x", net.weight(4, 8))))

    def compiled(board: str, shape: str, length: int) -> Bundle:
        data = {"x": np.random.default_rng(0).normal(size=(4, length, 4)).astype(np.float32)}
        np.savez(tmp_path / f"{length}.npz", **data)
        options: dict[str, Any] = {"calibration": tmp_path / f"{length}.npz", "shapes": {"x": shape}}
        return dsedge.compile(model, target=board, output=tmp_path / f"{board}-{shape}", **options)

    t4 = compiled("t4", "1:8:32,16:32:64,4", 32)
    both = write_repository([t4, compiled("a100", "1:8:16,32:32:99,4", 32)], tmp_path / "both", name="net")
    text = config(both.path, "net")
    assert "max_batch_size: 16\n" in text and "dims: [ -1, 4 ]" in text and "dims: [ 32, 4 ]" in text
    longer = compiled("a100", "1:8:16,128:128:256,4", 128)
    error = refused(lambda: write_repository([t4, longer], tmp_path / "none", name="net"))
    assert error.code == "DS401" and "x is [1, 32, 4], and the engines take [1, 128, 4] to [16, 64, 4]" in str(error)
    assert not (tmp_path / "none").exists()
