"""The engines of a model on Triton, one for each kind of GPU, and what builds those that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dsedge.bundle import Bundle
from dsedge.errors import BuildError, LoadError
from dsedge.target import known_targets, load_target

PLAN, BUILD = "model.plan", "build.py"
"""The engine in a TensorRT bundle, and the script that writes it there."""


@dataclass(frozen=True)
class Engine:
    """The engine of a bundle.

    Attributes:
        bundle: it comes from.
        board: that it was compiled for.
        capability: of the GPU, "8.0".
        file: its name in the repository.
        built: whether the bundle has it; else `BUILD` makes it, on that GPU.
    """

    bundle: Bundle
    board: str
    capability: str
    file: str
    built: bool


def engines_of(bundles: Sequence[Bundle]) -> list[Engine]:
    """The engine of each bundle.

    Raises:
        LoadError: DS145 for two of one compute capability, or a board without one.
        BuildError: DS401 for a bundle that has no engine and no script that builds it.
    """
    found: dict[str, Engine] = {}
    for bundle in bundles:
        board = bundle.manifest.target.board
        target = load_target(board) if board in known_targets() else None
        number = target.accelerator.compute_capability if target and target.accelerator else None
        if number is None:
            what = f"the compute capability of {board!r} is not known, and Triton chooses an engine by it"
            raise LoadError("DS145", what, where=str(bundle.path), hint="compile for a GPU that `dsedge targets` lists")
        if number in found:
            what = f"{board} and {found[number].board} both have compute capability {number}"
            raise LoadError("DS145", what, where=str(bundle.path), hint="give one bundle for each kind of GPU")
        files = {info.path for info in bundle.manifest.files}
        if not files & {PLAN, BUILD}:
            what = f"the bundle has neither {PLAN} nor {BUILD}"
            raise BuildError("DS401", what, where=str(bundle.path), hint="compile again")
        found[number] = Engine(bundle, board, number, f"model_{board}.plan", PLAN in files)
    return list(found.values())


def build_script(engines: Sequence[Engine]) -> str:
    """A shell script that builds the engine of the GPU it is run on.

    It runs the bundle's own script in a copy, so that what Triton reads is one whole file or none, and the bundle
    stays as it was checked.
    """
    cases = "".join(f"    {e.capability}) board={e.board} file={e.file} ;;\n" for e in engines)
    known = ", ".join(f"{e.capability} ({e.board})" for e in engines)
    return f"""#!/bin/sh
# Builds the engine of this machine's GPU. Run it once on each kind of GPU that will serve: {known};
# in an image with the TensorRT of the Triton that will load it: nvcr.io/nvidia/tensorrt of the same release.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | sort -u)
case "$capability" in
{cases}    *) echo "build.sh: there is a bundle for {known}, and this GPU is ${{capability:-unknown}}" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work" "$here/1/.$file"' EXIT
cp -R "$here/bundles/$board/." "$work"
(cd "$work" && "${{PYTHON:-python3}}" {BUILD})
cp "$work/{PLAN}" "$here/1/.$file"
mv "$here/1/.$file" "$here/1/$file"
echo "build.sh: wrote 1/$file"
"""
