"""Which operators NVIDIA's parser and compiler take, as `tools/tensorrt_operators.py` found out: `operators.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

ELSEWHERE = ("DeformConv", "NonMaxSuppression", "NonZero", "RoiAlign", "Attention")
"""What TensorRT-RTX lacks, and TensorRT 10.15 has by its documentation (onnx-tensorrt, docs/operators.md)."""


@dataclass(frozen=True)
class Operators:
    """What was found.

    Attributes:
        compiler: which compiler said so, with its version.
        supported: operators of ONNX's own domain that were built.
        unsupported: those that its parser does not know.
        unbuilt: those that it knows, but of which it built no example -> what it said.
    """

    compiler: str
    supported: frozenset[str]
    unsupported: frozenset[str]
    unbuilt: Mapping[str, str]


@cache
def operators() -> Operators:
    """The list."""
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        found = tomllib.load(file)
    return Operators(
        found["compiler"], frozenset(found["supported"]), frozenset(found["unsupported"]), found["unbuilt"]
    )


def refusal(op_type: str, domain: str = "") -> str | None:
    """Why an operator cannot be read, None where it can, or where only a device tells."""
    if domain not in ("", "ai.onnx"):
        return f"it is of the domain {domain}, and needs a plugin of that name"
    if op_type in operators().unsupported and op_type not in ELSEWHERE:
        return f"NVIDIA's ONNX parser has no importer for it ({operators().compiler})"
    return None if onnx.defs.has(op_type) else "there is no such operator in ONNX"


def doubt(op_type: str) -> str | None:
    """Why an operator may not be built on a device, None where nothing is known against it."""
    known = operators()
    if op_type in ELSEWHERE and (op_type in known.unsupported or op_type in known.unbuilt):
        return "an operator that TensorRT has, as 10.15 is documented"
    if op_type in known.unbuilt:
        return f"{known.compiler} knows it, and built none of onnx's examples: {known.unbuilt[op_type]}"
    return None if op_type in known.supported else f"it is not in ONNX as {known.compiler} was asked about it"
