from __future__ import annotations

from pathlib import Path

import flow
import pytest
from graphs import chain, residual

from dsedge.backends import litert, onnxruntime
from dsedge.backends.base import Artifact, profile
from dsedge.backends.onnxruntime.profile import _costs


def test_every_operator_that_runs_has_a_cost_the_most_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantized = flow.quantized(chain())
    artifact = onnxruntime.build(quantized.model, tmp_path)
    found = profile(onnxruntime, artifact, flow.samples(quantized.source, 1)[0].feeds, 1)
    executed = flow.executed(artifact.main, tmp_path)
    assert sorted(cost.op for cost in found) == sorted(node.op_type for node in executed)
    assert [cost.ms for cost in found] == sorted((cost.ms for cost in found), reverse=True)
    assert found[0].ms > 0 and capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "optimized.onnx"]


def test_what_a_loop_repeats_counts_each_time() -> None:
    event = {"cat": "Node", "name": "a_kernel_time", "dur": 500, "args": {"op_name": "Add"}}
    others = [{"cat": "Session", "name": "run", "dur": 9000}, {**event, "name": "a_fence_before"}]
    assert [(c.node, c.op, c.ms) for c in _costs([event] * 23 * 4 + others)] == [("a", "Add", 2.0)]


def test_a_runtime_without_a_profiler_tells_nothing(tmp_path: Path) -> None:
    assert profile(litert, Artifact(tmp_path / "none"), {}, 1) == []


def test_an_operator_names_what_was_fused_into_it(tmp_path: Path) -> None:
    """The float artifact's convolutions are named after what they give, and one that holds a sum does not say so."""
    model = residual()
    feeds = flow.samples(model, 1)[0].feeds
    found = profile(onnxruntime, onnxruntime.build(flow.quantized(model).graph, tmp_path), feeds, 1)
    made_of = {name: cost for cost in found for name in cost.nodes}
    if "ReorderOutput" in {cost.op for cost in found}:  # the layout of CPUs with AVX
        assert made_of["conv_4"] is made_of["Add_5"]
    assert made_of["GlobalAveragePool_12" if "GlobalAveragePool_12" in made_of else "globalaveragepool_12"].ms > 0


def test_what_the_optimizer_put_in_reads_and_is_read(tmp_path: Path) -> None:
    quantized = flow.quantized(chain())
    found = profile(
        onnxruntime, onnxruntime.build(quantized.model, tmp_path), flow.samples(quantized.source, 1)[0].feeds, 1
    )
    by_name = {cost.node: cost for cost in found}
    first = next(cost for cost in found if "Conv_0" in cost.nodes)
    while first.reads:
        (before,) = first.reads
        first = by_name[before]
        assert not set(first.nodes) & set(quantized.plan.nodes)
    assert first.op == "QuantizeLinear"
