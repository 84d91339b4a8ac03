from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.report.explain import node_view, overview
from dsedge.report.plan import Plan, find_node, quantized_values, read_plan, tied


def text(content: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(content)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def with_plan(bundle: Callable[..., Bundle]) -> Callable[[str], Bundle]:
    def make(content: str) -> Bundle:
        file = {"path": "plan.json", "sha256": "00" * 32, "bytes": len(content), "role": "plan"}
        made = bundle(files=[file])
        (made.path / "plan.json").write_text(content)
        return made

    return make


def test_what_a_node_reads_and_writes(plan: dict[str, Any]) -> None:
    read = Plan.model_validate(plan)
    conv = find_node(read, "conv")
    assert [(role, value.name) for role, value in quantized_values(read, conv)] == [
        ("reads", "x"),
        ("writes", "relu_out"),
    ]
    [_, (_, written)] = quantized_values(read, conv)
    assert tied(read, written) == ["pool_out"]
    assert quantized_values(read, find_node(read, "softmax")) == []


def test_views(plan: dict[str, Any], with_plan: Callable[[str], Bundle]) -> None:
    bundle = with_plan(json.dumps(plan))
    read = read_plan(bundle)
    shown = text(overview(bundle, read))
    assert "its INT8 kernel is slower" in shown and "-1 to 1" in shown
    assert [line.split()[-1] for line in shown.splitlines() if " uint8 " in line] == ["1", "pool_out", "pool_out"]
    shown = text(node_view(read, find_node(read, "conv"), bundle.manifest))
    assert (
        "relu (Relu)" in shown
        and "input 1, int8 per channel (axis 0, 8 channels), scales 0.01 to 0.02" in shown
        and "0.0078125" in shown
    )


def test_what_a_node_becomes(plan: dict[str, Any], with_plan: Callable[[str], Bundle]) -> None:
    made = with_plan(json.dumps(plan))
    assert "-> becomes" not in text(overview(made, read_plan(made)))
    plan["nodes"][0]["lowered"] = "CONV_2D"
    read = Plan.model_validate(plan)
    assert "Conv -> CONV_2D" in text(overview(made, read))
    assert "CONV_2D" in text(node_view(read, find_node(read, "conv"), made.manifest))


def test_the_audit_overrules_the_plan(plan: dict[str, Any], with_plan: Callable[[str], Bundle]) -> None:
    plan["nodes"][2]["name"] = "softmax_1"
    bundle = with_plan(json.dumps(plan))
    assert "float, planned as INT8" in text(overview(bundle, read_plan(bundle)))


def test_unknown_node(plan: dict[str, Any]) -> None:
    with pytest.raises(DsedgeError) as caught:
        find_node(Plan.model_validate(plan), "sofmax")
    assert caught.value.code == "DS145" and "did you mean 'softmax'?" in str(caught.value)
    with pytest.raises(DsedgeError) as far:
        find_node(Plan.model_validate(plan), "nosuch")
    assert "did you mean" not in str(far.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"contract": 3}', "[" * 100_000])
def test_damaged_plan(content: str, with_plan: Callable[[str], Bundle]) -> None:
    with pytest.raises(DsedgeError) as caught:
        read_plan(with_plan(content))
    assert caught.value.code == "DS803"


def test_missing_plan(bundle: Callable[..., Bundle], with_plan: Callable[[str], Bundle]) -> None:
    with pytest.raises(DsedgeError, match="DS803"):
        read_plan(bundle("none"))
    made = with_plan("{}")
    Path(made.path / "plan.json").unlink()
    with pytest.raises(DsedgeError, match="DS803"):
        read_plan(made)
