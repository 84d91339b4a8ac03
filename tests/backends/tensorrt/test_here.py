"""A bundle that is completed where it was compiled, on stand-ins for TensorRT and CUDA; ONNX Runtime computes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dsedge.backends.tensorrt.here import complete
from dsedge.backends.tensorrt.settings import read_settings
from dsedge.errors import DsedgeError
from dsedge.target import load_target
from tests.backends.tensorrt.device.bundles import cuda_library, golden_of, of_a_compiled_one

ORIN = load_target("jetson-orin-nano")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This machine, with TensorRT 10.3 and the GPU of an Orin."""
    modules = str(Path(__file__).parent / "device" / "stand_in")
    variables = {"PYTHONPATH": modules, "TENSORRT_VERSION": "10.3.0", "GPU_CAPABILITY": "8.7"}
    for name, value in (variables | {"LD_LIBRARY_PATH": cuda_library(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return monkeypatch


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_where_the_device_is_here_the_engine_is_built_compared_and_timed(
    bundle_folder: Path, machine: pytest.MonkeyPatch
) -> None:
    folder = of_a_compiled_one(bundle_folder)
    run, notes = complete(folder, ORIN)
    assert run is not None and run.status == "measured" and len(notes) == 1
    assert [line.partition(":")[0] for line in run.summary if "median" in line] == ["int8", "fp16", "fp32"]
    assert {"engine.plan", "engine.fp16.plan", "engine.fp32.plan", "device.json"} < set(files(folder))
    assert "__pycache__" not in files(folder)
    name, three = next(iter(read_settings(folder).profiles.items()))
    assert f"timed with {name} {'x'.join(map(str, three.opt))}" in run.summary


@pytest.mark.parametrize(
    ("name", "value"), [("GPU_CAPABILITY", "8.0"), ("PYTHONPATH", ""), ("CUDA_FAILS", "cudaGetDeviceCount:100")]
)
def test_elsewhere_the_bundle_waits(bundle_folder: Path, machine: pytest.MonkeyPatch, name: str, value: str) -> None:
    folder = of_a_compiled_one(bundle_folder)
    before = files(folder)
    machine.setenv(name, value)
    assert complete(folder, ORIN) == (None, [])
    assert files(folder) == before


def test_a_gpu_that_is_only_alike_is_not_taken_for_the_target(bundle_folder: Path, machine: pytest.MonkeyPatch) -> None:
    folder = of_a_compiled_one(bundle_folder)
    before = files(folder)
    machine.setenv("GPU_NAME", "NVIDIA A30")
    run, (note,) = complete(folder, ORIN)
    assert run is None and files(folder) == before
    assert note == (
        "the GPU here could be the one of jetson-orin-nano, and no engine was built: "
        "it calls itself NVIDIA A30, and the target a gpu"
    )


def test_an_engine_that_cannot_be_built_is_a_note(bundle_folder: Path, machine: pytest.MonkeyPatch) -> None:
    folder = of_a_compiled_one(bundle_folder)
    before = files(folder)
    machine.setenv("TENSORRT_FAILS", "build")
    run, (note,) = complete(folder, ORIN)
    assert run is None and note.endswith(
        "no engine was built: out of memory; build.py: TensorRT built no engine: out of memory"
    )
    assert files(folder) == before


def test_an_engine_that_cannot_be_verified_is_a_note(bundle_folder: Path, machine: pytest.MonkeyPatch) -> None:
    folder = of_a_compiled_one(bundle_folder)
    before = files(folder)
    machine.setenv("CUDA_FAILS", "cudaMalloc:2")  # which a builder does not call
    run, (note,) = complete(folder, ORIN)
    assert run is None and note.startswith("an engine was built here, and could not be verified: ")
    assert "out of memory. free memory of the GPU" in note
    assert files(folder) == before


def test_a_report_that_cannot_be_read_is_a_note(bundle_folder: Path, machine: pytest.MonkeyPatch) -> None:
    folder = of_a_compiled_one(bundle_folder)
    before = files(folder)
    machine.setenv("TENSORRT_VERSION", "10.3.0+" + "x" * 30)
    run, (note,) = complete(folder, ORIN)
    assert run is None and "could not be verified: field 'tensorrt'" in note and files(folder) == before


@pytest.mark.parametrize(
    ("line", "done"), [("print('hello')", True), ("import atexit; atexit.register(print, 7)", False)]
)
def test_what_a_module_prints_as_python_starts_is_no_answer(
    bundle_folder: Path, machine: pytest.MonkeyPatch, tmp_path: Path, line: str, done: bool
) -> None:
    (tmp_path / "sitecustomize.py").write_text(line)
    machine.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    machine.setenv("GPU_NAME", "NVIDIA A30")
    notes = complete(of_a_compiled_one(bundle_folder), ORIN)[1]
    assert bool(notes) is done


def test_an_engine_that_computes_something_else_is_an_error(bundle_folder: Path, machine: pytest.MonkeyPatch) -> None:
    folder = of_a_compiled_one(bundle_folder)
    golden = golden_of(folder)
    golden["float_0"] = golden["float_0"][..., ::-1] + 1
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    with pytest.raises(DsedgeError) as caught:
        complete(folder, ORIN)
    assert caught.value.code == "DS501" and "the golden outputs are off" in (caught.value.because or "")
    assert not (folder / "device.json").exists()
