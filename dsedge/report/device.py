"""What is left to do for a bundle that its device finishes, and what the files for that are."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from dsedge.bundle import Manifest

_FILES = {
    "build.py": "builds the engine",
    "build.sh": "the same by trtexec alone; build.py calls it where Python's tensorrt is missing",
    "verify.py": "compares golden outputs, times the engine, writes device.json; --compare: beside float16 and float32",
    "run.py": "runs the engine: --input X.npz --output Y.npz; --bench; without options a check of golden outputs",
    "build.json": "what the engine is built with",
    "build.conf": "the same for build.sh",
    "trt_*.py": "parts of the scripts",
}


def steps(manifest: Manifest, folder: str | Path) -> list[str]:
    """What to do on the device and then here, a line each; nothing where the device has reported or is not needed.

    Args:
        manifest: of the bundle.
        folder: how the bundle is called where it lies.
    """
    if manifest.status not in ("deferred", "checked"):
        return []
    return [
        f"copy the folder {folder} to the {manifest.target.board} and there, in it, build the engine: python3 build.py",
        "compare its outputs and time it against float engines: python3 verify.py --compare",
        f"copy device.json, which that writes, back into {folder} and read it here: dsedge verify {folder}",
    ]


def files(manifest: Manifest) -> list[tuple[str, str]]:
    """The files of such a bundle that the device works with, and what each is for."""
    return [(name, why) for name, why in _FILES.items() if any(fnmatch(file.path, name) for file in manifest.files)]
