"""The scripts on JetPack 5's Python 3.8 and numpy 1.17, as an interpreter runs them; stand-ins for the rest.

`tools/jetpack5.py` prepares what they need; without it they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from dsedge.backends.tensorrt.result import read_result
from tests.backends.tensorrt.device.bundles import cuda_library, device, golden_of, of_a_compiled_one

sys.path.append(str(Path(__file__).parents[4] / "tools"))
import jetpack5

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(not jetpack5.ready(), reason="no Python 3.8 with numpy 1.17: run tools/jetpack5.py"),
]


def test_from_the_graphs_to_a_result_that_is_read_back(bundle_folder: Path, tmp_path: Path) -> None:
    folder = of_a_compiled_one(bundle_folder)
    python, packages = jetpack5.python()
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), TENSORRT_VERSION="8.5.2.2")
    environment["LC_ALL"] = "C.UTF-8"
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).with_name("stand_in")), packages])

    def call(*arguments: str) -> str:
        line = [python, "-S", *arguments]
        ended = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert json.loads(
        call("-c", "import json, sys, numpy; print(json.dumps([sys.version[:3], numpy.__version__]))")
    ) == [
        "3.8",
        "1.17.4",
    ]
    assert "planned nodes run in INT8" in call("build.py")
    assert json.loads(call("run.py"))["passed"]
    np.savez(
        folder / "x.npz", **{onnx.load(folder / "model.fp32.onnx").graph.input[0].name: golden_of(folder)["input_0"][0]}
    )
    assert json.loads(call("run.py", "--input", "x.npz", "--output", "y.npz"))
    assert json.loads(call("run.py", "--bench", "--runs", "3"))["runs"] == 3
    call("verify.py", "--runs", "10", "--compare")
    result = read_result(folder)
    assert result.tensorrt == "8.5.2.2" and list(result.latency) == ["int8", "fp16", "fp32"]
    assert not any("not compared" in warning for warning in result.warnings)
