from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.audit import audit
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.graphs import fp32_graph, typed_graph
from dsedge.backends.tensorrt.lint import lint
from dsedge.target import load_target
from tests.flow import Quantized, quantized
from tests.graphs import Net

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


FILE = "model.fp32.onnx"


@pytest.fixture(scope="module")
def made() -> Quantized:
    """Two convolutions with a residual sum between them, and a linear head."""
    net = Net(x=(16, 32, 8, 8))
    first = net.conv("x", 32, act="Relu")
    second = net.act("Relu", net.op("Add", net.conv(first, 32), first))
    net.channels[second] = 32
    return quantized(net.model(net.head(second, 32)), contract(load_target("a100")))


def test_all_that_was_planned_runs_on_codes(made: Quantized) -> None:
    graph = fp32_graph(made.model)
    assert not lint(graph, "8.0", version="8.5")
    found = audit(oracle.check(graph, "8.0"), made.plan, FILE)
    assert found.performed
    assert not found.unmatched
    assert found.lowered["Conv_0"] == "correlation"
    assert found.lowered.keys() == made.plan.nodes.keys(), "so that no operator is left out of the counts"
    assert f"builds {FILE} for" in found.summary and "not an engine of the target" in found.summary


def test_what_was_lost_is_named(made: Quantized) -> None:
    plan = made.plan
    conv = replace(plan.nodes["Conv_0"], name="Relu_1")  # computed in float, and claimed to be a product on codes
    claimed = replace(plan, nodes={**plan.nodes, "Relu_1": conv})
    found = audit(oracle.check(fp32_graph(made.model), "8.0"), claimed, FILE)
    assert found.unmatched == {"Relu_1": "computed on Float by kgen"}
    assert found.float_ops > audit(oracle.check(fp32_graph(made.model), "8.0"), plan, FILE).float_ops


def test_a_plan_without_products_is_not_checked_by_what_was_built(made: Quantized) -> None:
    sums = {name: node for name, node in made.plan.nodes.items() if node.op_type == "Add"}
    assert [node.precision for node in sums.values()] == ["int8"]
    found = audit(oracle.check(fp32_graph(made.model), "8.0"), replace(made.plan, nodes=sums), FILE)
    assert not found.performed and "no product" in found.summary and found.int8_ops == 1


def test_a_proxy_says_that_it_is_one_and_turing_that_it_cannot_tell(made: Quantized) -> None:
    graph = fp32_graph(made.model)
    assert "nearest to 8.7" in audit(oracle.check(graph, "8.7"), made.plan, FILE).summary
    turing = audit(oracle.check(graph, "7.5"), made.plan, FILE)  # float32 products are refused there
    assert not turing.performed
    typed, _ = typed_graph(made.model)
    turing = audit(oracle.check(typed, "7.5"), made.plan, FILE)
    assert (
        not turing.performed
        and not turing.lowered
        and turing.int8_ops == sum(n.precision == "int8" for n in made.plan.nodes.values())
    )
    assert "of 2 products nothing can be told" in turing.summary and "1 of 1 products run on codes" in turing.summary


def test_a_pooling_over_which_a_quantizer_is_moved_is_named() -> None:
    net = Net(x=(16, 32, 8, 8))
    y = net.op("MaxPool", net.conv("x", 32, act="Relu"), kernel_shape=[2, 2], strides=[2, 2])
    net.channels[y] = 32
    made = quantized(net.model(net.conv(y, 32)), contract(load_target("a100")))
    assert made.plan.nodes["MaxPool_2"].precision == "float"
    found = audit(oracle.check(fp32_graph(made.model), "8.0"), made.plan, FILE)
    assert "planned in float and on codes all the same: MaxPool_2;" in found.summary
