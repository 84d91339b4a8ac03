"""Measures how large the core install is, and proves that the wheel alone is enough.

    python tools/core_size.py

Builds the wheel, installs it into a fresh environment in a temporary folder (with pip, from the index it is set up
for), compiles models/digits_cnn there with its calibration data, and prints the bytes on disk of every distribution and
the total beyond numpy. The exit code is 1 when that total exceeds 230 MB (10^6 bytes).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dsedge.cli.output import show
from dsedge.report.terminal import table

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MB = 230.0

# Runs in the fresh environment. Files that pip compiled are in RECORD too, so that this is what the disk holds.
_SIZES = """
import importlib.metadata as m, json, pathlib
def size(d):
    paths = {pathlib.Path(d.locate_file(f)).resolve() for f in d.files or ()}
    return sum(p.stat().st_size for p in paths if p.is_file())
print(json.dumps({d.metadata["Name"]: size(d) for d in m.distributions()}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it printed; end with its error when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def install(folder: Path) -> Path:
    """Build the wheel and install it into an environment below `folder`; returns that environment's bin folder."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("dsedge-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    binaries = folder / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return binaries


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    home = ROOT / "models" / "digits_cnn"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binaries = install(folder)
        sizes: dict[str, int] = json.loads(run(binaries / "python", "-c", _SIZES, cwd=folder))
        command = ("compile", home / "digits_cnn.onnx", "--target", "pos-x86", "--calib", home / "calibration.npz")
        run(binaries / "dsedge", *command, "-o", "bundle", cwd=folder)
        proof = run(binaries / "dsedge", "verify", "bundle", cwd=folder)
    for tool in ("pip", "setuptools"):  # of the environment, not of dsedge
        sizes.pop(tool, None)
    beyond = sum(size for package, size in sizes.items() if package != "numpy") / 1e6
    cells = [(package, f"{size / 1e6:.2f}") for package, size in sorted(sizes.items(), key=lambda item: -item[1])]
    show(table(("distribution", "MB#"), cells, title="The core install"))
    print(f"beyond numpy: {beyond:.1f} MB, limit {LIMIT_MB:.0f} MB: {'yes' if beyond <= LIMIT_MB else 'NO'}")
    print(f"\ndigits_cnn compiled and verified with the wheel alone:\n{proof}")
    return 0 if beyond <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
