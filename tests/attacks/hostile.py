"""Models as an attacker or a broken exporter would write them, and what a refusal looks like."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from graphs import Net
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "models" / "digits_cnn"
MODEL, CALIBRATION, EVALUATION = (DIGITS / name for name in ("digits_cnn.onnx", "calibration.npz", "evaluation.npz"))
BOARD = "raspberry-pi-5"  # nothing is measured for it here, which saves seconds

CLASSES = 4
WEIGHT, BIAS = "const_0", "const_1"  # of the convolution in `small`


@dataclass(frozen=True)
class Ended:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


def refused(ended: Ended, code: str, *words: str, exit_code: int = 2) -> None:
    """Assert that a run ended with one coded error on standard error, and nothing else anywhere."""
    assert ended.err.startswith(f"error[{code}]: "), ended
    assert len(re.findall(r"^error\[", ended.err, re.MULTILINE)) == 1, ended
    assert all(re.match(r"error\[|  (because|hint): |    ", line) for line in ended.err.splitlines()), ended
    assert "Traceback" not in ended.err
    assert (ended.code, ended.out) == (exit_code, ""), ended
    assert all(word in ended.err for word in words), ended


def nothing_left(folder: Path) -> None:
    assert not folder.exists() or list(folder.iterdir()) == []


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "dsedge", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """The environment of a run in a process of its own: this checkout's dsedge, whatever is installed."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


def run_apart(
    *arguments: str | Path, timeout: float = 60, before: Callable[[], None] | None = None, cwd: Path | None = None
) -> Ended:
    """Run the command line in a process of its own, which a crash cannot take down with it."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        preexec_fn=before,
        cwd=cwd,
        env=environment(),
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def small() -> onnx.ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm."""
    net = Net(x=("N", 3, 8, 8))
    return net.proto(net.head(net.conv("x", 8, act="Relu"), CLASSES))


def initializer(proto: onnx.ModelProto, name: str = WEIGHT) -> TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def save(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def graph(
    nodes: Sequence[onnx.NodeProto], output: str, functions: Sequence[onnx.FunctionProto] = (), **inputs: Any
) -> onnx.ModelProto:
    """A model around nodes; inputs are (element type, shape)."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    domains = sorted({function.domain for function in functions})
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_graph(nodes, "g", values, outputs)
    return helper.make_model(made, opset_imports=opsets, ir_version=10, functions=list(functions))
