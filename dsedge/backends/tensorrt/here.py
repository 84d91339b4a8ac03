"""Completes a deferred bundle where its device is this machine: by the scripts that the bundle has for that device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dsedge.backends.base import DeviceRun
from dsedge.backends.tensorrt.result import RESULT
from dsedge.backends.tensorrt.summary import result
from dsedge.errors import VerifyError
from dsedge.target import Target

SECONDS = 2 * 3600
"""The most that a builder may take: it times every kernel that it could use."""

_LOOK = """
import json, tensorrt, trt_cuda, trt_target
target, gpu = json.load(open("build.json"))["target"], trt_cuda.Cuda().gpu()
alike = gpu["compute_capability"] == target["compute_capability"]
print(json.dumps(trt_target.differences(target, gpu, tensorrt.__version__) if alike else None))
"""
_MADE = ("engine*", "timing.cache", RESULT)


def complete(folder: Path, target: Target) -> tuple[DeviceRun | None, list[str]]:
    """Build, inspect, compare and time the engine, where Python's `tensorrt` is here and this machine is the target.

    Args:
        folder: of the bundle, with its manifest.
        target: the board.

    Returns:
        What the device's own report says, None when this machine is another one or no engine could be built; and
        notes: the reason, where the GPU has the target's compute capability. The bundle is then as it was.

    Raises:
        VerifyError: DS501 when the engine was built and does not do what the graph does.
        BundleError: DS803 when its report is not about this bundle.
    """
    others = _said(_run(folder, "-c", _LOOK))
    if others is None:
        return None, []
    if others:
        return None, [f"the GPU here could be the one of {target.name}, and no engine was built: {others[0]}"]
    built = _run(folder, "build.py")
    if built.returncode:
        _clean(folder)
        return None, [f"a GPU as the target's is here, and no engine was built: {_last_line(built)}"]
    verified = _run(folder, "verify.py", "--compare")
    if verified.returncode:
        what, hint = "the engine was built here and cannot be verified", "look at TensorRT's own messages: --debug"
        raise VerifyError("DS501", what, where="verify.py", because=_last_line(verified), hint=hint)
    return result(folder), ["the engine was built, compared and timed where it was compiled: see device.json"]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script of the bundle in this interpreter, without a trace of its own in the bundle."""
    command = [sys.executable, "-B", *arguments]
    try:
        return subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"stopped after {SECONDS} seconds")


def _said(ended: subprocess.CompletedProcess[str]) -> Any:
    """What a script printed as JSON, None when it failed: there is no CUDA, say."""
    return None if ended.returncode else json.loads(ended.stdout)


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = ended.stderr.strip().splitlines()
    return lines[-1][:500] if lines else f"it ended with {ended.returncode}"


def _clean(folder: Path) -> None:
    for pattern in _MADE:
        for file in folder.glob(pattern):
            file.unlink()
