"""The engines of a model on Triton, one for each kind of GPU, and what builds those that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from dsedge.backends.tensorrt.settings import MOST_BYTES, Settings, read_settings
from dsedge.bundle import Bundle, sha256
from dsedge.errors import BundleError, LoadError

PLAN, RECORD, BUILD = "engine.plan", "engine.json", "build.py"
"""The engine in a TensorRT bundle, how it was built, and the script that writes both there."""


@dataclass(frozen=True)
class Engine:
    """The engine of a bundle.

    Attributes:
        bundle: it comes from.
        settings: what it is built by.
        file: its name in the repository.
        tensorrt: the version that built it; None where the bundle has none, and `BUILD` makes it, on its GPU.
    """

    bundle: Bundle
    settings: Settings
    file: str
    tensorrt: str | None

    @property
    def board(self) -> str:
        """The board that it was compiled for."""
        return self.settings.target.name

    @property
    def capability(self) -> str:
        """The compute capability of its GPU, "8.0"."""
        return self.settings.target.compute_capability


def engines_of(bundles: Sequence[Bundle]) -> list[Engine]:
    """The engine of each bundle.

    Raises:
        LoadError: DS145 for two of one compute capability, or an engine for another one than the bundle's.
        BundleError: DS803 for a bundle without what an engine is built by, or whose engine is not the recorded one.
    """
    found: dict[str, Engine] = {}
    for bundle in bundles:
        settings = read_settings(bundle.path)
        number, board = settings.target.compute_capability, settings.target.name
        if number in found:
            what = f"{board} and {found[number].board} both have compute capability {number}"
            raise LoadError("DS145", what, where=str(bundle.path), hint="give one bundle for each kind of GPU")
        found[number] = Engine(bundle, settings, f"model_{board}.plan", _built_by(bundle, settings))
    return list(found.values())


class _Gpu(BaseModel):
    compute_capability: str


class _File(BaseModel):
    sha256: str


class _Record(BaseModel):
    tensorrt: str
    gpu: _Gpu
    engine: _File


def _built_by(bundle: Bundle, settings: Settings) -> str | None:
    plan, path, hint = bundle.path / PLAN, bundle.path / RECORD, f"run {BUILD} again, or remove {PLAN}"
    if not plan.is_file() or plan.is_symlink():
        return None
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise ValueError(f"there is no such file of at most {MOST_BYTES >> 20} MiB")
        record = _Record.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        because = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        what = f"the file does not say how {PLAN} was built"
        raise BundleError("DS803", what, where=str(path), because=because, hint=hint) from error
    if record.engine.sha256 != sha256(plan):
        raise BundleError("DS803", f"it is not the engine that {RECORD} is about", where=str(plan), hint=hint)
    if record.gpu.compute_capability != settings.target.compute_capability:
        what = f"the engine is for a GPU of compute capability {record.gpu.compute_capability}"
        because = f"the bundle is for {settings.target.name}, which has {settings.target.compute_capability}"
        raise LoadError("DS145", what, where=str(plan), because=because, hint="compile for the GPU that serves")
    return record.tensorrt


def stacked_by_profiles(engines: Sequence[Engine]) -> tuple[int, int]:
    """How many requests all engines take at once, and how many they are tuned for; 0 for none.

    That is what the optimization profiles say of the first axis.
    """
    profiles = [profile for engine in engines for profile in engine.settings.profiles.values()]
    if not profiles or any(not profile.min or profile.min[0] > 1 for profile in profiles):
        return 0, 0
    return min(profile.max[0] for profile in profiles), min(profile.opt[0] for profile in profiles)


def ranges_of(engines: Sequence[Engine]) -> dict[str, list[tuple[int, int]]]:
    """Input -> the least and the greatest length of each axis that all engines take; only inputs with open axes."""
    found: dict[str, list[tuple[int, int]]] = {}
    for name in engines[0].settings.profiles if engines else ():
        profiles = [e.settings.profiles[name] for e in engines if name in e.settings.profiles]
        least, most = zip(*(p.min for p in profiles), strict=False), zip(*(p.max for p in profiles), strict=False)
        found[name] = [(max(a), min(b)) for a, b in zip(least, most, strict=True)]
    return found


def build_script(engines: Sequence[Engine]) -> str:
    """A shell script that builds the engine of the GPU it is run on.

    It runs the bundle's own script in a copy, so that what Triton reads is one whole file or none, and the bundle
    stays as it was checked. JetPack 5 has no nvidia-smi, and later ones answer "[N/A]": a script of the bundle, of
    whichever board, asks CUDA then.
    """
    cases = "".join(f"    {e.capability}) board={e.board} file={e.file} ;;\n" for e in engines)
    known = ", ".join(f"{e.capability} ({e.board})" for e in engines)
    return f"""#!/bin/sh
# Builds the engine of this machine's GPU. Run it once on each kind of GPU that will serve: {known};
# in an image with the TensorRT of the Triton that will load it: nvcr.io/nvidia/tensorrt of the same release. On a
# Jetson that is the one whose name ends in -igpu, or none: JetPack's own TensorRT, and the Triton built for it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u)
case "$capability" in
[0-9]*.[0-9]*) ;;
*)
    ask='script("build.sh", lambda: print(Cuda().gpu()["compute_capability"]))'
    capability=$(cd "$here/bundles/{engines[0].board}" && "${{PYTHON:-python3}}" -B -c "from trt_files import script
from trt_cuda import Cuda
$ask")
    ;;
esac
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
