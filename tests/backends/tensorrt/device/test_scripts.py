"""What travels to a device: Python 3.8's syntax, numpy and the standard library, and no other file of dsedge."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from dsedge.backends.tensorrt.settings import SCRIPTS

PYTHON = sorted(name for name in SCRIPTS if name.endswith(".py"))


@pytest.mark.parametrize("name", PYTHON)
def test_a_script_runs_on_an_old_python(name: str) -> None:
    tree = ast.parse(SCRIPTS[name].read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    beside = {Path(other).stem for other in PYTHON}
    runtimes = {
        "tensorrt",
        *(("onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime") if name == "run.py" else ()),
    }
    outside = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
    assert outside <= {"numpy"} | beside | runtimes


def test_they_are_all_there() -> None:
    folder = Path(SCRIPTS["build.py"]).parent
    assert {p.name for p in folder.iterdir() if p.is_file()} == set(SCRIPTS) - {"run.py"}
