"""The cache of long steps: arrays under a key made of all that the step depends on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

import numpy as np

LIMIT_BYTES = 512 * 2**20


def folder() -> Path:
    """Where the cache lies: $DSEDGE_CACHE, else `dsedge` in the user's cache folder."""
    if own := os.environ.get("DSEDGE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsedge"


def key(step: str, **parts: object) -> str:
    """A key for a step; `parts` are everything that its result depends on."""
    from dsedge import __version__

    text = json.dumps([step, __version__, parts], sort_keys=True, default=str)
    return f"{step}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def load(name: str) -> dict[str, np.ndarray] | None:
    """The arrays under a key, None when there are none or they cannot be read."""
    path = folder() / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = dict(data)
        path.touch()
    except Exception:  # a damaged entry fails in as many ways as there are bytes; the step is done again
        return None
    return arrays


def store(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep arrays under a key. A cache that cannot be written is no error: the step is done again next time."""
    path = folder() / f"{name}.npz"
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
        _prune(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _prune(where: Path) -> None:
    """Drop the entries that were used least recently, beyond LIMIT_BYTES."""
    entries = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in where.glob("*.npz")), reverse=True)
    total = 0
    for _, size, path in entries:
        total += size
        if total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
