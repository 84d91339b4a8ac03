"""What NVIDIA's compiler said of a file: a file is put to it once, and again when it was written anew."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import onnx_ir as ir

from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.profiles import profiles
from dsedge.bundle import sha256


def reason_not_to_ask(capability: str) -> str:
    """Why nothing can be asked about a compute capability here, "" where it can."""
    if oracle.version() is None:
        return f"{oracle.PACKAGE} is not installed ({oracle.PIP_LINE})"
    return (
        "" if capability in oracle.AIMS else f"{oracle.PACKAGE} builds for nothing near compute capability {capability}"
    )


def ask(path: Path, capability: str) -> oracle.Verdict:
    """The verdict on a graph, with the profiles that it carries.

    Raises:
        BuildError: as `oracle.check`.
    """
    return _ask(path, sha256(path), capability)


@lru_cache(maxsize=16)
def _ask(path: Path, sha256: str, capability: str) -> oracle.Verdict:
    graph = ir.load(path)
    shapes = {name: (each.min, each.opt, each.max) for name, each in profiles(graph).items()}
    return oracle.check(graph, capability, profiles=shapes)
