"""Which TensorRT a target has, and which graph of a bundle that one builds."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from dsedge.backends.tensorrt.device.trt_rules import TYPINGS
from dsedge.backends.tensorrt.graphs import FLOAT, FP32, TYPED
from dsedge.backends.tensorrt.settings import Graph, Kind
from dsedge.backends.tensorrt.typed import BFLOAT, HALF
from dsedge.quant.plan import QuantPlan
from dsedge.target import Target

Version = tuple[int, int]

_KINDS: tuple[Kind, ...] = ("int4", "int8", "bf16", "fp16")
_MIXED: Mapping[Kind, Kind] = {"fp32": "fp16"}
"""Kind of the plan -> what its typed graph is built as, where that is another."""
OLDEST, ENDLESS = (8, 5), (999, 0)
_CLAUSE = re.compile(r"(==|!=|<=|>=|<|>|~=)(\d+)(?:\.(\d+))?(.*)")
SINCE = {TYPED[HALF]: (10, 0), TYPED[BFLOAT]: (10, 6)}
"""File of a bundle -> the first TensorRT that reads it, where that is not 8.5: see `graphs.py`."""


def is_read(file: str, target: Target) -> bool:
    """Whether a TensorRT that a target can have reads a file of a bundle."""
    return bounds(target)[1] > SINCE.get(file, OLDEST)


def bounds(target: Target) -> tuple[Version, Version]:
    """The lowest version of TensorRT that a target can have, and the first that it cannot."""
    least, limit = OLDEST, ENDLESS
    for clause in _range(target).split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            continue
        sign, major, minor, rest = match[1], int(match[2]), int(match[3] or 0), match[4]
        if sign in (">=", ">", "==", "~="):
            least = max(least, (major, minor))
        if sign in ("==", "~=", "<="):
            whole = match[3] is None or (not rest and sign == "~=")
            limit = min(limit, (major + 1, 0) if whole else (major, minor + 1))
        elif sign == "<":
            limit = min(limit, (major, minor))
    return least, limit


def kind_of(plan: QuantPlan) -> Kind:
    """The precision of the engine; what is not quantized is computed in float16, but for float32 engines."""
    found = {node.precision for node in plan.nodes.values()}
    return next((kind for kind in _KINDS if kind in found), "fp32")


def builds(files: Collection[str], kind: Kind, target: Target) -> str | None:
    """Of the files of a bundle the graph that the lowest TensorRT of a target builds, and that says how it rounds.

    The float graph does not: of it a builder's flag makes bfloat16, where TensorRT does not read the typed one.
    """
    graphs = [graph for graph in buildable(kind, files) if graph.file != FLOAT]
    typings = [these for since, these in TYPINGS if these and bounds(target)[0] >= since][-1]
    own = {graph.typing: graph.file for graph in reversed(graphs) if graph.precision == kind}
    return next((own[typing] for typing in typings if typing in own), None)


def buildable(kind: Kind, files: Collection[str]) -> list[Graph]:
    """What each file can be built as; the float graph stands for engines to compare with."""
    typed = Graph(file=TYPED[BFLOAT if kind == "bf16" else HALF], precision=_MIXED.get(kind, kind), typing="strong")
    own = [Graph(file=FP32, precision="int8", typing="weak")] if kind == "int8" else []
    own += [Graph(file=FLOAT, precision="bf16", typing="weak")] if kind == "bf16" else []
    floats = FLOAT if FLOAT in files else FP32
    others = [Graph(file=floats, precision="fp16", typing="weak")]
    others += [Graph(file=floats, precision="fp32", typing=typing) for typing in ("weak", "strong")]
    all_of_them = [*own, typed, *([] if kind == "int8" and floats == FP32 else others)]
    return [graph for graph in all_of_them if graph.file in files]


def _range(target: Target) -> str:
    return next((runtime.version or "" for runtime in target.runtimes if runtime.name == "tensorrt"), "")
