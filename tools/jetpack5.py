"""The Python of JetPack 5 on this machine: 3.8 with numpy 1.17.4, which Ubuntu 20.04 has.

    python tools/jetpack5.py

Installs that numpy, and an ONNX Runtime that runs with it, with pip into build/jetpack5. What is there already stays.
`tests/backends/tensorrt/device` runs the scripts of a TensorRT bundle with it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from arm_sysroot import Unavailable, install, interpreter

HOME = Path(__file__).resolve().parents[1] / "build" / "jetpack5"
WHEELS = ("numpy==1.17.4", "onnx==1.14.1", "onnxruntime==1.10.0", "protobuf==3.20.3", "typing-extensions==4.13.2")
VERSION = "3.8"


def ready() -> bool:
    """Whether it is installed."""
    return (HOME / "python").is_file()


def python() -> tuple[str, str]:
    """The interpreter, and the folder of its packages."""
    return (HOME / "python").read_text(encoding="utf-8"), str(HOME)


def make() -> None:
    """Install it.

    Raises:
        Unavailable: there is no such Python, or no network.
    """
    found = interpreter(VERSION)
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent) as name:
        made = Path(name) / "made"
        install(made, WHEELS, f"--python-version={VERSION}")
        (made / "python").write_text(found, encoding="utf-8")
        made.rename(HOME)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        if not ready():
            make()
    except Unavailable as reason:
        print(f"jetpack5.py: {reason}", file=sys.stderr)
        return 3
    print(HOME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
