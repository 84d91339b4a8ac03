"""The lint: what NVIDIA's compiler refuses, runs in float silently, or gets wrong, found with onnx_ir alone.

A rule is a function in `rules_quantized.py` or `rules_graph.py`; its docstring is its manual. Each was checked against
TensorRT-RTX's parser and compiler (`tests/backends/tensorrt/test_lint.py`), but where it says that only TensorRT itself
or a device can tell.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection

import onnx_ir as ir

from dsedge.backends.tensorrt import rules_graph, rules_quantized
from dsedge.backends.tensorrt.rule import Chip, Rule, Violation

RULES: tuple[Rule, ...] = (*rules_quantized.RULES, *rules_graph.RULES)


def lint(
    model: ir.Model,
    capability: str,
    *,
    version: str | None = None,
    profiled: Collection[str] = (),
    rules: Collection[str] | None = None,
) -> list[Violation]:
    """Look for all that TensorRT would refuse, run in float, or get wrong.

    Args:
        model: a float or Q/DQ graph with the shapes and types of its values, as it will be written.
        capability: compute capability of the target, "8.7".
        version: of TensorRT on the target, "10.3"; None where it is not known.
        profiled: names of the inputs that there is an optimization profile for.
        rules: codes of the rules to apply, None for all.

    Returns:
        The violations, in the order of the rules and of the graph.
    """
    chip = Chip(_number(capability), _number(version) if version else None, frozenset(profiled))
    applied = (rule for rule in RULES if rules is None or rule.code in rules)
    return [violation for rule in applied for violation in rule.check(model, chip)]


def manual(code: str) -> str:
    """What a rule is about, why it matters and what to do, as text.

    Raises:
        KeyError: when there is no such rule.
    """
    rule = {rule.code: rule for rule in RULES}[code]
    return f"{code} ({rule.severity})\n{inspect.getdoc(rule.find)}\nbecause: {rule.because}\nhint: {rule.hint}"


def _number(dotted: str) -> tuple[int, int]:
    major, _, rest = dotted.partition(".")
    return int(major), int(rest.split(".")[0] or 0)
