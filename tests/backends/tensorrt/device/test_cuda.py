"""The CUDA runtime by ctypes, against a library of the same functions that checks its pointers; and without any."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dsedge.backends.tensorrt.device.trt_target import board_model
from tests.backends.tensorrt.device.bundles import cuda_library, device, finish, python

COPY = """
import ctypes, trt_cuda
cuda = trt_cuda.Cuda()
stream, data = cuda.handle("cudaStreamCreate"), ctypes.create_string_buffer(b"0123456789", 10)
address, back = cuda.handle("cudaMalloc", 10), ctypes.create_string_buffer(10)
cuda.copy(address, ctypes.addressof(data), 10, trt_cuda.TO_DEVICE, stream)
cuda.copy(ctypes.addressof(back), address, 10, trt_cuda.TO_HOST, stream)
cuda.call("cudaStreamSynchronize", stream)
print(back.raw.decode(), cuda.milliseconds(*(cuda.handle("cudaEventCreate") for _ in range(2))))
cuda.call("cudaFree", address)
print(cuda.gpu())
try:
    cuda.call("cudaFree", address)
except trt_cuda.CudaError as error:
    print(error.code)
"""
NONE = "import trt_cuda as t; t.SONAMES = t.FOLDERS = t.WHEELS = (); t.Cuda()"


def test_pointers_sizes_and_codes_cross_as_they_are(tmp_path: Path) -> None:
    ended = python(COPY, device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path)))
    assert ended.returncode == 0, ended.stderr
    copied, gpu, code = ended.stdout.splitlines()
    assert copied == "0123456789 1.5" and code == "1"
    said = ast.literal_eval(gpu)
    assert said.pop("model") == board_model()
    told = {"name": "A GPU", "compute_capability": "8.7", "memory_mib": 7620}
    assert said == {**told, "cuda_runtime": "12.6", "cuda_driver": "12.8"}


def test_a_machine_without_a_driver_is_not_told_to_update_it(tmp_path: Path) -> None:
    none = {"CUDA_FAILS": "cudaGetDeviceCount:35", "CUDA_DRIVER": "0"}
    ended = python(COPY, device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), **none))
    assert ended.returncode == 1 and "this machine has no NVIDIA driver" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("cudaMalloc:2", "cudaMalloc failed: cudaErrorMemoryAllocation (2): out of memory. free memory of the GPU"),
        ("cudaGetDeviceCount:35", "the driver is older than this CUDA runtime"),
        ("cudaGetDeviceCount:100", "no GPU is visible"),
        ("cudaMemcpyAsync:77", "cudaMemcpyAsync failed: cudaErrorOther (77): another error"),
    ],
)
def test_an_error_says_what_failed_and_what_to_do(tmp_path: Path, fails: str, said: str) -> None:
    ended = python(COPY, device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), CUDA_FAILS=fails))
    assert ended.returncode == 1 and said in ended.stderr.splitlines()[-1]


def test_without_the_library_the_error_names_what_to_install(tmp_path: Path) -> None:
    ended = python(NONE, device(tmp_path))
    assert ended.returncode == 1 and "the CUDA runtime is missing" in ended.stderr
    assert "nvidia-jetpack" in ended.stderr


def test_build_py_ends_with_two_where_there_is_no_cuda(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    script = f"import runpy; runpy.run_path({str(folder / 'build.py')!r}, run_name='__main__')"
    ended = python(NONE.replace("t.Cuda()", script), device(tmp_path))
    assert ended.returncode == 2 and ended.stderr.startswith("build.py: the CUDA runtime is missing")
