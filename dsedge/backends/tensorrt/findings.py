"""The lint over the graphs of a bundle: errors end the compilation, warnings become notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import onnx_ir as ir

from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.lint import lint
from dsedge.backends.tensorrt.profiles import profiles
from dsedge.backends.tensorrt.rule import Violation
from dsedge.errors import BuildError
from dsedge.target import Target

_SHOWN = 200
_OLDEST = ((17, "8.5"), (21, "10.0"), (24, "10.15"))
"""Opset up to which -> the oldest TensorRT that reads it."""


def linted(graphs: Mapping[str, ir.Model], target: Target) -> list[str]:
    """Notes on the graphs of a bundle, by file name.

    Raises:
        BuildError: DS404 with every error in the first graph that has some: the others say the same.
    """
    chip = capability(target).number
    warnings: list[Violation] = []
    for file, graph in graphs.items():
        found = lint(graph, chip, version=_version(graph), profiled=profiles(graph))
        if errors := [each for each in found if each.severity == "error"]:
            _refuse(file, errors)
        warnings += found
    return _by_rule(warnings)


def _refuse(file: str, errors: list[Violation]) -> NoReturn:
    lines = [f"{each.code}: {_place(each)}{each.what}" for each in errors[:_SHOWN]]
    lines += [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    rules = {each.code: each for each in errors}
    lines += [f"{code}: {each.because}" for code, each in rules.items()]
    hint = "; ".join(dict.fromkeys(each.hint for each in rules.values()))
    what = f"TensorRT would refuse the graph, or not compute what it says, in {len(errors)} place(s)"
    raise BuildError("DS404", what, where=file, because="\n".join(lines), hint=hint)


def _version(graph: ir.Model) -> str:
    opset = graph.opset_imports.get("", 0)
    return next((version for most, version in _OLDEST if opset <= most), "11.0")


def _by_rule(warnings: list[Violation]) -> list[str]:
    """One note for each rule, with the nodes."""
    rules: dict[str, list[Violation]] = {}
    for each in warnings:
        rules.setdefault(each.code, []).append(each)
    notes = []
    for code, listed in rules.items():
        places = list(dict.fromkeys(each.node for each in listed if each.node))
        named = f" ({', '.join(places[:3])}{', ...' if len(places) > 3 else ''})" if places else ""
        notes.append(f"{code}: {listed[0].what}{named}: {listed[0].because}")
    return notes


def _place(each: Violation) -> str:
    return f"{each.op} {each.node!r}: " if each.op else ""
