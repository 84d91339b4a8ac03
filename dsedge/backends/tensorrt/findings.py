"""The lint over the graphs of a bundle: errors end the compilation, warnings become notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import onnx_ir as ir

from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.lint import lint
from dsedge.backends.tensorrt.profiles import profiles
from dsedge.backends.tensorrt.rule import Violation
from dsedge.backends.tensorrt.versions import SINCE, bounds, is_read
from dsedge.errors import BuildError
from dsedge.report.text import counted
from dsedge.target import Target

_SHOWN = 3


def linted(graphs: Mapping[str, ir.Model], target: Target) -> list[str]:
    """Notes on the graphs of a bundle, by file name: as the lowest TensorRT of the target that a file is for has it.

    Raises:
        BuildError: DS404 with the errors in the first graph that has some: the others say the same.
    """
    chip, least = capability(target).number, bounds(target)[0]
    warnings: dict[str, list[tuple[str, str]]] = {}
    notes = []
    for file, graph in graphs.items():
        version = max(least, SINCE.get(file, least))
        found = lint(graph, chip, version=".".join(map(str, version)), profiled=profiles(graph))
        if errors := [each for each in found if each.severity == "error"]:
            _refuse(file, errors)
        for code, listed in _by_rule(found).items():
            warnings.setdefault(code, []).append((file, _sentence(code, listed)))
        if not is_read(file, target):
            notes.append(
                f"{file} is for TensorRT {version[0]}.{version[1]} and later: this target's builds another graph"
            )
    for places in warnings.values():
        where = "" if len(places) == len(graphs) else f"{' and '.join(file for file, _ in places)}: "
        notes.append(where + places[0][1])
    return notes


def _refuse(file: str, errors: list[Violation]) -> NoReturn:
    rules = _by_rule(errors)
    places = sum(len(_places(listed)) for listed in rules.values())
    what = f"TensorRT would refuse the graph, or not compute what it says, in {counted(places, 'place')}"
    because = "\n".join(_sentence(code, listed) for code, listed in rules.items())
    hints = {code: listed[0].hint for code, listed in rules.items()}
    hint = "; ".join(f"{code}: {text}" for code, text in hints.items()) if len(hints) > 1 else "".join(hints.values())
    raise BuildError("DS404", what, where=file, because=because, hint=hint)


def _by_rule(found: list[Violation]) -> dict[str, list[Violation]]:
    rules: dict[str, list[Violation]] = {}
    for each in found:
        rules.setdefault(each.code, []).append(each)
    return rules


def _sentence(code: str, listed: list[Violation]) -> str:
    """What breaks a rule, three places, how many more there are, and why it matters."""
    places = [place for place in _places(listed) if place]
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    named = f" ({', '.join(places[:_SHOWN])}{more})" if places else ""
    return f"{code}: {listed[0].what}{named}: {listed[0].because}"


def _places(listed: list[Violation]) -> list[str]:
    """Each place once: a pair of quantizers is one."""
    return list(dict.fromkeys(each.place for each in listed))
