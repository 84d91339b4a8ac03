"""tflite-runtime on this machine: what a board runs whose Python is too old for ai-edge-litert.

    python tools/tflite_runtime.py

Installs its last release and the numpy that it needs with pip into build/tflite-runtime, for each of Python 3.9, 3.10
and 3.11 that can be started here. What is there already stays. `tests/device` runs bundles with them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from arm_sysroot import Unavailable, install, interpreter

HOME = Path(__file__).resolve().parents[1] / "build" / "tflite-runtime"
WHEELS = ("tflite-runtime==2.14.0", "numpy==1.26.4")
VERSIONS = ("3.9", "3.10", "3.11")


def ready() -> list[str]:
    """The versions of Python for which it is installed."""
    return [version for version in VERSIONS if (HOME / version / "python").is_file()]


def python(version: str) -> tuple[list[str], dict[str, str]]:
    """The command of a Python that sees these packages and no others, and its environment."""
    interpreter = (HOME / version / "python").read_text(encoding="utf-8")
    return [interpreter, "-S"], {"PYTHONPATH": str(HOME / version), "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


def make(version: str) -> None:
    """Install it for a version of Python.

    Raises:
        Unavailable: there is no such Python, or no network.
    """
    found = interpreter(version)
    HOME.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name:
        made = Path(name) / version
        install(made, WHEELS, f"--python-version={version}")
        (made / "python").write_text(found, encoding="utf-8")
        made.rename(HOME / version)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for version in VERSIONS:
        if version in ready():
            continue
        try:
            make(version)
        except Unavailable as reason:
            print(f"tflite_runtime.py: not for Python {version}: {reason}", file=sys.stderr)
    print(f"{HOME}: {', '.join(ready()) or 'nothing'}")
    return 0 if ready() else 3


if __name__ == "__main__":
    sys.exit(main())
