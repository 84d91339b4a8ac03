"""LiteRT bundles where they will run: emulated ARM CPUs, and Pythons too old for ai-edge-litert.

`tools/arm_sysroot.py` and `tools/tflite_runtime.py` prepare what they need; without it they are skipped.
"""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import arm_sysroot
import numpy as np
import pytest
import tflite_runtime
from graphs import Net

import dsedge
from dsedge.bench.runner import load_litert

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.device
on_arm = pytest.mark.skipif(not arm_sysroot.ready(), reason="no ARM sysroot: run tools/arm_sysroot.py")

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"
SAMPLES = 32
ROUNDED_TWICE = 8
"""LSB: tflite-runtime's own int8 kernels, which run where XNNPACK has none, round every result twice. It adds up over
the layers of an untrained net; that the outputs are as near to the float model's as here is what `run.py` tests.
"""
_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy, run
predict = run.load_litert(sys.argv[1] + "/model.tflite", 1)
numpy.save(sys.argv[3], [predict({sys.argv[4]: x})[0] for x in numpy.load(sys.argv[2])])
"""

Machine = tuple[list[str], dict[str, str]]
"""The command of a Python, and its environment."""


def digits(folder: Path) -> tuple[Path, np.ndarray]:
    bundle = dsedge.compile(
        DIGITS / "digits_cnn.onnx",
        target="raspberry-pi-4",
        runtime="litert",
        calibration=DIGITS / "calibration.npz",
        output=folder,
    )
    with np.load(DIGITS / "evaluation.npz") as data:
        return bundle.path, data["image"][:SAMPLES, None]


def mobilenet(folder: Path) -> tuple[Path, np.ndarray]:
    """MobileNetV2's idioms at 32x32: ReLU6, depthwise convolutions, linear bottlenecks, residuals."""
    net = Net(x=(1, 3, 32, 32))
    y = net.conv("x", 16, act="Relu6", strides=[2, 2])
    for out, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)):
        wide = net.conv(y, net.channels[y] * 6, 1, act="Relu6")
        wide = net.conv(wide, net.channels[wide], act="Relu6", group=net.channels[wide], strides=[stride, stride])
        z = net.conv(wide, out, 1)
        y = net.op("Add", z, y) if stride == 1 and net.channels[y] == out else z
    samples = np.random.default_rng(0).standard_normal((2 * SAMPLES, 1, 3, 32, 32)).astype(np.float32)
    bundle = dsedge.compile(
        net.model(net.head(net.conv(y, 64, 1, act="Relu6"))),
        target="raspberry-pi-4",
        runtime="litert",
        calibration=[{"x": x} for x in samples[SAMPLES:]],
        output=folder,
    )
    return bundle.path, samples[:SAMPLES]


@pytest.fixture(scope="module", params=[digits, mobilenet])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A bundle and samples for it, [SAMPLES, 1, ...]."""
    make: Callable[[Path], tuple[Path, np.ndarray]] = request.param
    return make(tmp_path_factory.mktemp(make.__name__) / "bundle")


def lsb(machine: Machine, bundle: Path, samples: np.ndarray, folder: Path) -> np.ndarray:
    """How far each output of another machine is from this machine's, in steps of its INT8 codes."""
    name = json.loads((bundle / "manifest.json").read_text())["model"]["inputs"][0]["name"]
    predict = load_litert(bundle / "model.tflite", 1)
    here = np.array([predict({name: x})[0] for x in samples])
    np.save(folder / "samples.npy", samples)
    (folder / "outputs.py").write_text(_RUN)
    command, environment = machine
    files = (folder / "outputs.py", bundle, folder / "samples.npy", folder / "outputs.npy", name)
    subprocess.run([*command, *map(str, files)], env=environment, check=True)
    # Outputs are codes times a scale: the smallest difference between two of them is one step.
    step = np.diff(np.unique(here)).min()
    off: np.ndarray = np.rint(np.abs(np.load(folder / "outputs.npy") - here) / step)
    if off.any():
        share = 100 * np.mean(off == 0)
        # May be no failure, but pytest lists it at the end, with the name of the test.
        warnings.warn(f"at most {off.max():.0f} LSB, {share:.1f}% exact of {off.size}", stacklevel=2)
    return off


@on_arm
@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_aarch64_computes_what_this_machine_does(cpu: str, compiled: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    bundle, samples = compiled
    found = arm_sysroot.run_bundle(cpu, bundle)
    assert found["passed"]
    assert found["emulated"].startswith(f"{cpu} by qemu-aarch64")
    assert not any("ms" in key.split("_") for key in found)
    assert lsb(arm_sysroot.python(cpu), bundle, samples, tmp_path).max() == 0


@on_arm
def test_tflite_runtime_on_armv7(compiled: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    bundle, samples = compiled
    found = arm_sysroot.run_bundle("cortex-a7", bundle)
    assert found["passed"]
    assert found["emulated"].startswith("cortex-a7 by qemu-arm")
    assert lsb(arm_sysroot.python("cortex-a7"), bundle, samples, tmp_path).max() <= ROUNDED_TWICE


@pytest.mark.parametrize("version", tflite_runtime.VERSIONS)
def test_tflite_runtime_on_old_pythons(version: str, compiled: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    if version not in tflite_runtime.ready():
        pytest.skip(f"no tflite-runtime for Python {version}: run tools/tflite_runtime.py")
    bundle, samples = compiled
    command, environment = tflite_runtime.python(version)
    subprocess.run([*command, str(bundle / "run.py")], env=environment, check=True)
    assert lsb((command, environment), bundle, samples, tmp_path).max() <= ROUNDED_TWICE


def test_no_board_without_a_sysroot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(arm_sysroot, "HOME", tmp_path)
    with pytest.raises(arm_sysroot.Unavailable, match=r"no ARM sysroot: run tools/arm_sysroot\.py"):
        arm_sysroot.run_bundle("cortex-a72", tmp_path)
