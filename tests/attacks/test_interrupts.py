"""Ctrl-C and SIGTERM in the middle of a compilation: one coded error, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attacks.hostile import CALIBRATION, MODEL, Ended, environment, nothing_left, refused

# Signals itself when a step begins, so that the moment does not depend on the machine; if that is wanted once more
# whenever something is cleaned up after that.
SCRIPT = """
import os, shutil, sys
import dsedge.steps
from dsedge.cli import main
step, number, again = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "again"
tell, rmtree = dsedge.steps.Steps.tell, shutil.rmtree
def stop(self, name, *rest):
    tell(self, name, *rest)
    if name == step:
        if again:
            shutil.rmtree = stop_again
        os.kill(os.getpid(), number)
def stop_again(*args, **kwargs):
    os.kill(os.getpid(), number)
    rmtree(*args, **kwargs)
dsedge.steps.Steps.tell = stop
sys.argv[1:] = sys.argv[4:]
main()
"""


def interrupted(step: str, number: int, out: Path, *, runtime: str = "onnxruntime", again: bool = False) -> Ended:
    # A target of this machine, so that latency is measured too.
    arguments = ["compile", MODEL, "-t", "pos-x86", "--calib", CALIBRATION, "-o", out / "bundle"]
    arguments += ["--runtime", runtime]
    script = [sys.executable, "-c", SCRIPT, step, str(number), "again" if again else "once", *map(str, arguments)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120, env=environment())
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("step", ["load", "check", "normalize", "baseline", "calibrate", "build", "verify", "measure"])
def test_ctrl_c(tmp_path: Path, step: str) -> None:
    refused(interrupted(step, signal.SIGINT, tmp_path / "out"), "DS900", "interrupted", exit_code=130)
    nothing_left(tmp_path / "out")


@pytest.mark.parametrize("step", ["baseline", "build", "measure"])
def test_ctrl_c_with_another_runtime(tmp_path: Path, step: str) -> None:
    ended = interrupted(step, signal.SIGINT, tmp_path / "out", runtime="litert")
    refused(ended, "DS900", "interrupted", exit_code=130)
    nothing_left(tmp_path / "out")


@pytest.mark.parametrize("step", ["load", "quantize", "measure"])
def test_sigterm(tmp_path: Path, step: str) -> None:
    refused(interrupted(step, signal.SIGTERM, tmp_path / "out"), "DS900", "interrupted", exit_code=130)
    nothing_left(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_user(tmp_path: Path, number: int) -> None:
    """The second Ctrl-C comes while the first one is being answered."""
    refused(interrupted("verify", number, tmp_path / "out", again=True), "DS900", exit_code=130)
    nothing_left(tmp_path / "out")
