"""Completes a deferred bundle where its device is this machine: by the scripts that the bundle has for that device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dsedge.backends.base import DeviceRun
from dsedge.backends.tensorrt.device.trt_rules import OFF
from dsedge.backends.tensorrt.result import RESULT
from dsedge.backends.tensorrt.summary import result
from dsedge.errors import BundleError, VerifyError
from dsedge.target import Target

SECONDS = 2 * 3600
"""The most that a builder may take: it times every kernel that it could use."""

_LOOK = """
import json, tensorrt, trt_cuda, trt_target
target, gpu = json.load(open("build.json"))["target"], trt_cuda.Cuda().gpu()
alike = gpu["compute_capability"] == target["compute_capability"]
print(json.dumps(trt_target.differences(target, gpu, tensorrt.__version__) if alike else None))
"""
_MADE = ("engine*", "timing.cache*", f"{RESULT}*")
"""What the scripts write, and what of it is not whole where one was stopped."""


def complete(folder: Path, target: Target) -> tuple[DeviceRun | None, list[str]]:
    """Build, inspect, compare and time the engine, where Python's `tensorrt` is here and this machine is the target.

    Args:
        folder: of the bundle, with its manifest.
        target: the board.

    Returns:
        What the device's own report says, None when this machine is another one or no engine could be built, verified
        and timed; and notes: the reason, where the GPU has the target's compute capability. The bundle is then as it
        was.

    Raises:
        VerifyError: DS501 when the engine was built and does not do what the graph does.
    """
    others = _said(_run(folder, "-c", _LOOK))
    if others is None:
        return None, []
    if others:
        return None, [f"the GPU here could be the one of {target.name}, and no engine was built: {others[0]}"]
    built = _run(folder, "build.py")
    if built.returncode:
        _clean(folder)
        return None, [f"a GPU as the target's is here, and no engine was built: {_last_lines(built)}"]
    verified = _run(folder, "verify.py", "--compare")
    if verified.returncode == OFF:
        what = "the engine that was built here computes something else than the graph"
        raise VerifyError("DS501", what, where="verify.py", because=_last_lines(verified))
    try:
        reason, run = (_last_lines(verified), None) if verified.returncode else ("", result(folder))
    except BundleError as error:
        reason, run = str(error.because), None
    if run is None:
        _clean(folder)
        return None, [f"an engine was built here, and could not be verified: {reason}"]
    return run, ["the engine was built, compared and timed where it was compiled: see device.json"]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script of the bundle in this interpreter; neither it nor a script that it calls leaves bytecode there."""
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"stopped after {SECONDS} seconds")


def _said(ended: subprocess.CompletedProcess[str]) -> list[str] | None:
    """The list that a script printed last as JSON, None when it failed: there is no CUDA, say.

    What lies before it a module printed that the interpreter imports by itself.
    """
    try:
        found = None if ended.returncode else json.loads(ended.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return found if isinstance(found, list) else None


def _last_lines(ended: subprocess.CompletedProcess[str]) -> str:
    """TensorRT's last messages, and the script's own after them."""
    lines = ended.stderr.strip().splitlines()
    return "; ".join(lines[-3:])[-500:] or f"it ended with {ended.returncode}"


def _clean(folder: Path) -> None:
    for pattern in _MADE:
        for file in folder.glob(pattern):
            file.unlink()
