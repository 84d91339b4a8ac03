"""The engines of a model on Triton, one for each kind of GPU, and what builds those that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from dsedge.backends.tensorrt.settings import SETTINGS, Settings
from dsedge.bundle import Bundle
from dsedge.errors import BundleError, LoadError

PLAN, BUILD = "engine.plan", "build.py"
"""The engine in a TensorRT bundle, and the script that writes it there."""

_MAX_SETTINGS_BYTES = 1 << 24


@dataclass(frozen=True)
class Engine:
    """The engine of a bundle.

    Attributes:
        bundle: it comes from.
        settings: what it is built by.
        file: its name in the repository.
        built: whether the bundle has it; else `BUILD` makes it, on its GPU.
    """

    bundle: Bundle
    settings: Settings
    file: str
    built: bool

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
        LoadError: DS145 for two of one compute capability.
        BundleError: DS803 for a bundle without what an engine is built by.
    """
    found: dict[str, Engine] = {}
    for bundle in bundles:
        settings, plan = _settings(bundle), bundle.path / PLAN
        number, board = settings.target.compute_capability, settings.target.name
        if number in found:
            what = f"{board} and {found[number].board} both have compute capability {number}"
            raise LoadError("DS145", what, where=str(bundle.path), hint="give one bundle for each kind of GPU")
        built = plan.is_file() and not plan.is_symlink()
        found[number] = Engine(bundle, settings, f"model_{board}.plan", built)
    return list(found.values())


def _settings(bundle: Bundle) -> Settings:
    path = bundle.path / SETTINGS
    try:
        if path.stat().st_size > _MAX_SETTINGS_BYTES:
            raise ValueError("it is larger than 16 MiB")
        settings = Settings.model_validate_json(path.read_bytes())
        if not settings.target.name.strip("."):
            raise ValueError("the target's name is that of a folder above")
        return settings
    except (OSError, ValueError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        what = f"{SETTINGS} does not say what its engine is built by"
        raise BundleError("DS803", what, where=str(bundle.path), because=problem, hint="compile again") from error


def stacked_by_profiles(engines: Sequence[Engine]) -> tuple[int, int]:
    """How many requests all engines take at once, and how many they are tuned for; 0 for none.

    That is what the optimization profiles say of the first axis.
    """
    profiles = [profile for engine in engines for profile in engine.settings.profiles.values()]
    if not profiles or any(not profile.min or profile.min[0] > 1 for profile in profiles):
        return 0, 0
    return min(profile.max[0] for profile in profiles), min(profile.opt[0] for profile in profiles)


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
