"""A lint rule: one function that finds what it is about in a graph, and whose docstring is its manual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

Severity = Literal["error", "warning"]

Outcome = Literal["refused", "float", "wrong", "runs"]
"""What NVIDIA's compiler makes of a graph that breaks a rule.

- refused: the parser or the builder says no.
- float: an engine is built, and computes in float what was meant as INT8.
- wrong: an engine is built, and computes other numbers than the graph.
- runs: an engine is built as was meant; the rule is about speed, about another version, or about the oracle itself.
"""


@dataclass(frozen=True)
class Chip:
    """What a graph is to run on.

    Attributes:
        capability: compute capability, (8, 0).
        version: of TensorRT on the target, (10, 3); None where it is not known.
        profiled: names of inputs for whose open axes there is an optimization profile.
    """

    capability: tuple[int, int]
    version: tuple[int, int] | None = None
    profiled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Violation:
    """A place where a graph breaks a rule.

    Attributes:
        code: of the rule, "TRT001".
        severity: an "error" would be refused, run in float silently, or compute something else.
        node, op: name and type of the node, "" where it is about the model or one of its values.
        place: the same for people; of a quantizer the operator of the model that it is for.
        what: the finding.
        because, hint: of the rule: why it matters, and what to do.
    """

    code: str
    severity: Severity
    node: str
    op: str
    place: str
    what: str
    because: str
    hint: str


Found = Iterator[tuple[ir.Node | None, str]]
"""Nodes that break a rule, each with a sentence on it."""


@dataclass(frozen=True)
class Rule:
    """A rule: `find` looks at a graph; the other attributes are what is said of each thing that it finds."""

    code: str
    severity: Severity
    outcome: Outcome
    because: str
    hint: str
    find: Callable[[ir.Model, Chip], Found] = field(repr=False)

    def check(self, model: ir.Model, chip: Chip) -> list[Violation]:
        """All violations of this rule in a graph."""
        return [
            Violation(
                self.code,
                self.severity,
                (node.name or "") if node is not None else "",
                node.op_type if node is not None else "",
                _place(node) if node is not None else "",
                what,
                self.because,
                self.hint,
            )
            for node, what in self.find(model, chip)
        ]


def _place(node: ir.Node) -> str:
    """A node of the model by type and name; for a quantizer the first that reads it, and what it reads there."""
    index = None
    while node.op_type in ("QuantizeLinear", "DequantizeLinear") and (use := next(iter(node.outputs[0].uses()), None)):
        node, index = use.node, use.idx
    return f"{node.op_type} {node.name!r}" + (f" input {index}" if index is not None else "")


def collect(rules: list[Rule]) -> Callable[..., Callable[[Callable[[ir.Model, Chip], Found]], Callable[..., Found]]]:
    """A decorator that makes a rule of a function, and puts it at the end of a list."""

    def declare(
        code: str, outcome: Outcome, *, because: str, hint: str, severity: Severity = "error"
    ) -> Callable[[Callable[[ir.Model, Chip], Found]], Callable[..., Found]]:
        def add(find: Callable[[ir.Model, Chip], Found]) -> Callable[..., Found]:
            rules.append(Rule(code, severity, outcome, because, hint, find))
            return find

        return add

    return declare
