from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import Net
from onnx import helper, numpy_helper

from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.lint import RULES, lint, manual
from dsedge.backends.tensorrt.operators import doubt, operators, refusal
from dsedge.backends.tensorrt.support import unsupported
from tests.backends.tensorrt.cases import CASES, Case, conv, single

RULE = {rule.code: rule for rule in RULES}
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


def codes(model: ir.Model, capability: str, version: str | None = None) -> set[str]:
    return {violation.code for violation in lint(model, capability, version=version)}


def outcome(model: ir.Model, capability: str, coded: bool) -> str:
    """What the compiler makes of a graph: refused, float, or runs."""
    verdict = oracle.check(model, capability)
    if not verdict.accepted:
        return "refused"
    return "runs" if not coded or oracle.coverage(verdict, ["product"])[0] else "float"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_breaks_a_rule_is_found_and_what_keeps_it_is_not(case: Case) -> None:
    assert codes(case.breaks(), case.capability, case.version) == {case.code, *case.also}
    assert not codes(case.keeps(), case.kept_on or case.capability, case.version) - {"TRT017", "TRT112"}


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_compiler_agrees(case: Case) -> None:
    said = RULE[case.code].outcome
    # What is computed wrongly is accepted like what is right: that is what makes it dangerous.
    assert outcome(case.breaks(), case.capability, case.coded) == ("runs" if said == "wrong" else said)
    coded = case.coded and case.kept_on != "7.5"
    assert outcome(case.keeps(), case.kept_on or case.capability, coded) == "runs"


def test_each_rule_has_a_case_and_a_manual() -> None:
    assert set(RULE) - {"TRT109"} == {case.code for case in CASES}
    for code, rule in RULE.items():
        assert rule.find.__doc__
        assert all(word in manual(code) for word in (code, rule.because, rule.hint))


def test_weights_in_a_file_that_is_missing_or_short_are_found(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones(4000, np.float32), "w")
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4000]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", value[:1], value[1:], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert not lint(ir.load(path), "8.0", rules=["TRT109"])
    (tmp_path / "w.bin").write_bytes(bytes(100))
    assert lint(ir.load(path), "8.0", rules=["TRT109"])
    (tmp_path / "w.bin").unlink()
    assert lint(ir.load(path), "8.0", rules=["TRT109"])


def test_an_input_with_a_profile_may_have_open_axes() -> None:
    assert not lint(conv(batch="N"), "8.0", profiled=["x"])


def test_every_operator_that_no_importer_is_for_is_listed_at_once() -> None:
    assert [(f.node, f.op) for f in unsupported(single("DynamicQuantizeLinear"))] == [
        ("product", "DynamicQuantizeLinear")
    ]
    assert not unsupported(conv())


@needs_compiler
def test_uint8_codes_are_taken_for_int8() -> None:
    """The evidence for TRT004: no kernel of the engine reads or writes uint8."""
    (case,) = (c for c in CASES if str(c) == "TRT004-stated")
    layers = oracle.check(case.breaks(), "8.0").layers
    assert {kind for layer in layers for kind in (*layer.reads, *layer.writes)} == {"Float", "Int8"}


@needs_compiler
def test_float64_is_computed_as_float32() -> None:
    """The evidence for TRT106."""
    (case,) = (c for c in CASES if c.code == "TRT106")
    layers = oracle.check(case.breaks(), "8.0").layers
    assert {kind for layer in layers for kind in (*layer.reads, *layer.writes)} == {"Float"}


def test_every_operator_of_onnx_is_judged_once() -> None:
    known = operators()
    judged = [*known.supported, *known.unsupported, *known.unbuilt]
    assert len(judged) == len(set(judged))
    assert {"Conv", "LayerNormalization", "Resize", "Gelu", "Loop", "QuantizeLinear"} <= known.supported
    refused = {"QLinearConv", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"}
    assert refused <= known.unsupported
    assert all(refusal(name) and not doubt("Conv") for name in refused)
    assert doubt("DeformConv") and not refusal("DeformConv")  # TensorRT has it, by its documentation


def test_a_deep_residual_net_is_walked_once() -> None:
    """Every block doubles the paths from the last product to the input: 2^40 of them are not counted to the end."""
    net, value = Net(x=(1, 16, 8, 8)), "x"
    for _ in range(40):
        value = net.op("Add", value, net.conv(value, 16, act="SiLU"))
        net.channels[value] = 16
    assert not [each for each in lint(net.model(value).graph, "8.0") if each.severity == "error"]
