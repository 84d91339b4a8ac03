"""build.sh of a repository on a Jetson, where nvidia-smi is not there or does not know: CUDA is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from deferred import tensorrt

from dsedge.emit.triton import write_repository
from tests.backends.tensorrt.device.bundles import cuda_library, device, stand_in


@pytest.mark.parametrize("said", [None, "echo '[N/A]'", "exit 9"])
@pytest.mark.parametrize(("driver", "built"), [("12080", True), ("0", False)])
def test_without_an_answer_of_nvidia_smi_cuda_is_asked(
    bundle_folder: Path, tmp_path: Path, said: str | None, driver: str, built: bool
) -> None:
    model = write_repository([tensorrt(bundle_folder, tmp_path / "t4", "t4")], tmp_path / "r", name="net").path / "net"
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), GPU_CAPABILITY="7.5", CUDA_DRIVER=driver)
    if said:
        stand_in(tmp_path, "nvidia-smi", said)
    command = ["sh", str(model / "build.sh")]
    environment["PYTHON"] = sys.executable
    ended = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert [path.name for path in (model / "1").iterdir()] == ["model_t4.plan"] * built
    if built:
        assert ended.returncode == 0, ended.stderr
    else:
        assert ended.returncode == 2 and ended.stderr.startswith("build.sh: this machine has no NVIDIA driver")
