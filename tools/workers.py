"""Processes of their own, for figures that would otherwise hold what another step left behind.

Imports the standard library only: what a worker is charged with is what it imports itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def peak_rss_mb() -> float:
    """The greatest resident set of this process so far, in MB (10^6 bytes).

    Read from /proc, because `getrusage` also counts what the process was before exec: a worker would report the peak
    of the script that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def run_worker(script: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run `script --job JSON` as a process of its own, in a folder of its own which is deleted afterwards.

    Args:
        script: prints one JSON object as its last line.
        job: what the worker is told; paths in it must be absolute.

    Returns:
        That object and `process_seconds`, the wall time of the whole process; `error` alone when the worker failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, str(script.resolve()), "--job", json.dumps(job)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1][:200] if lines else f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "process_seconds": seconds}
