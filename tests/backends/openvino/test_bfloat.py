"""bfloat16: what the artifact records, what the plugin makes of it, and what a board without it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flow import samples, stopwatch
from graphs import Net, chain, residual

pytest.importorskip("openvino")

import onnx_ir as ir

import dsedge
from dsedge import race
from dsedge.backends import openvino as backend
from dsedge.backends.base import Artifact
from dsedge.backends.openvino.audit import executed
from dsedge.backends.openvino.bfloat import without_roundings
from dsedge.bench.runner import compile_openvino, sqnr
from dsedge.errors import LoadError
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.insert import insert
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import Request, annotate_as_asked
from dsedge.report.plan import read_plan
from dsedge.report.summary import operators
from dsedge.target import load_target
from dsedge.verify import predictor, run_all, verify_bundle

TARGET = load_target("x86-server")
CONTRACT = backend.contract(TARGET)
on_host = pytest.mark.skipif(not TARGET.matches_host()[0], reason=TARGET.matches_host()[1])
FLOAT, BF16 = Request("fp32"), Request("bf16")


def built(source: Model, request: Request, folder: Path) -> tuple[Artifact, QuantPlan, ir.Model]:
    graph = normalize(source)[0].graph
    plan = annotate_as_asked(graph.graph, CONTRACT, request)
    written = insert(graph, plan, CONTRACT)
    folder.mkdir()
    return backend.build(written, folder), plan, written


def hint(path: Path) -> str:
    return str(compile_openvino(path, 1).get_property("INFERENCE_PRECISION_HINT").get_type_name())


def linear() -> Model:
    net = Net(x=(4, 256))
    return net.model(net.gemm(net.op("Relu", net.gemm("x", 256, 256)), 256, 256))


@on_host
def test_the_artifact_itself_says_in_what_it_computes(tmp_path: Path) -> None:
    brain, plan, _ = built(residual(), BF16, tmp_path / "bf16")
    plain, _, _ = built(residual(), FLOAT, tmp_path / "fp32")
    assert (hint(brain.main), hint(plain.main)) == ("bf16", "f32")
    convolutions = [o.precision for o in executed(brain.main) if o.kind == "Convolution"]
    assert convolutions and set(convolutions) == {"bf16"}
    found = backend.audit(brain, plan, TARGET)
    assert (found.unmatched, found.int8_ops, found.float_ops) == ({}, 0, 0)
    assert found.bf16_ops == len(plan.nodes)
    assert backend.load(brain.main, 1).conditions == {  # type: ignore[attr-defined]
        "inference_precision": "bf16",
        "streams": 1,
        "inference_threads": 1,
        "performance_hint": "LATENCY",
    }


@on_host
def test_what_runs_in_float32_is_not_claimed(tmp_path: Path) -> None:
    """The artifact of another CPU: the plan says bfloat16, and nothing computes so."""
    _, plan, _ = built(linear(), BF16, tmp_path / "bf16")
    plain, _, _ = built(linear(), FLOAT, tmp_path / "fp32")
    found = backend.audit(plain, plan, TARGET)
    assert set(found.unmatched) == set(plan.nodes)
    assert (found.bf16_ops, found.float_ops) == (0, len(plan.nodes))
    assert "operators in BF16: 0" in found.summary


@on_host
def test_the_graph_rounds_as_the_artifact_does(tmp_path: Path) -> None:
    artifact, _, written = built(linear(), BF16, tmp_path / "bf16")
    batches = samples(linear(), 4)
    (reference,), (rounded,) = (
        [np.concatenate([sample[0] for sample in run_all(predictor(graph, optimize=False), batches)])]
        for graph in (normalize(linear())[0].graph, written)
    )
    predict = backend.load(artifact.main, 1)
    got = np.concatenate([predict(batch.feeds)[0] for batch in batches])
    assert 40 < sqnr(reference, rounded) < 60
    assert abs(sqnr(reference, rounded) - sqnr(reference, got)) < 3


def test_what_becomes_a_shape_is_not_rounded() -> None:
    """1.3334 in bfloat16 is 1.3359: of 400 rows one more."""
    net = Net(x=(1, 8, 400, 4))
    y = net.op("Resize", net.conv("x", 4), "", net.const(np.array([1, 1, 1.3334, 1], np.float32)), mode="nearest")
    net.channels[y] = 4
    model = net.model(net.conv(y, 4))
    graph = normalize(model)[0].graph
    written = insert(graph, annotate_as_asked(graph.graph, CONTRACT, BF16), CONTRACT)
    batches = samples(model, 1)
    (before,), (after,) = (run_all(predictor(g, optimize=False), batches)[0] for g in (graph, written))
    assert before.shape == after.shape == (1, 4, 533, 4)
    assert 35 < sqnr(before, after) < 60


def test_the_file_is_half_as_large_and_holds_no_casts(tmp_path: Path) -> None:
    sizes = [built(linear(), r, tmp_path / r.base)[0].files[1].stat().st_size for r in (BF16, FLOAT)]
    assert sizes[0] < 0.55 * sizes[1]
    assert "Convert" not in (tmp_path / "fp32" / "model.xml").read_text()
    graph = normalize(linear())[0].graph
    assert without_roundings(graph) is graph
    written = insert(graph, annotate_as_asked(graph.graph, CONTRACT, BF16), CONTRACT)
    before = [node.op_type for node in written.graph]
    plain = [node.op_type for node in without_roundings(written).graph]
    assert plain == [node.op_type for node in graph.graph]
    assert [node.op_type for node in written.graph] == before and before.count("Cast") > 4, "left as it is"


def test_a_board_without_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        dsedge.compile(chain(), target="pos-x86", runtime="openvino", precision="bf16", output=tmp_path / "out")
    assert caught.value.code == "DS146"
    assert "the board's CPU does not compute in bfloat16" in str(caught.value.because)
    assert "it has fp32, fp16, int8" in str(caught.value.hint) and "bf16" not in str(caught.value.hint)
    assert not (tmp_path / "out").exists()


def test_it_is_an_alternative_where_the_board_has_it() -> None:
    graph = chain().graph.graph
    assert backend.alternatives(TARGET, graph) == ("bf16",)
    assert backend.alternatives(load_target("pos-x86"), graph) == ()
    assert replace(CONTRACT, bfloat="", lacks={}) == replace(backend.contract(load_target("pos-x86")), lacks={})


@on_host
def test_it_races_beside_int8(tmp_path: Path) -> None:
    """Whoever wins, each row says its precision, and each time what it was taken under."""
    source = residual()
    data = [batch.feeds for batch in samples(source, 4)]
    bundle = dsedge.compile(source, target=TARGET, calibration=data, output=tmp_path / "out")
    rows = {row.precision: row for row in bundle.manifest.candidates if row.runtime == "openvino"}
    assert set(rows) == {"float32", "int8", "bf16"}
    assert all(row.median_ms and row.error is None for row in rows.values())
    assert rows["bf16"].sqnr_db is not None and rows["bf16"].sqnr_db > 35
    for latency in bundle.manifest.latency:
        if latency.runtime.startswith("openvino"):
            wanted = "bf16" if latency.precision == "bf16" else "f32"
            assert latency.conditions["inference_precision"] == wanted


@on_host
def test_operators_that_stay_in_float32_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin has a TopK for float32 alone."""
    monkeypatch.setattr(race, "measure", stopwatch({"openvino bf16": 1.0}))
    net = Net(x=(4, 256))
    model = net.model(
        net.op("ReduceSum", net.ops("TopK", net.gemm("x", 256, 256), net.ints(8), count=2)[0], net.ints(1))
    )
    bundle = dsedge.compile(model, target=TARGET, runtime="openvino", precision="bf16", output=tmp_path / "out")
    found = bundle.manifest.precision
    assert (found.precision, found.asked, bundle.manifest.calibration) == ("bf16", "bf16", None)
    assert found.bf16_ops > 0 and found.bf16_ops + found.float_ops == found.total_ops
    assert any("computes it in f32, as TopK" in island.reason for island in found.islands)
    assert {node.precision for node in read_plan(bundle).nodes} == {"bf16", "float"}
    assert f"{found.bf16_ops} of {found.total_ops} in BF16" in operators(bundle.manifest)
    assert {gate.name for gate in bundle.manifest.gates} == {"latency_vs_float", "size"}
    verify_bundle(bundle)


@on_host
def test_a_gate_that_fails_ends_the_search(tmp_path: Path) -> None:
    """No operator can go back to float32 by itself: there is one try, and the float artifact ships."""
    seen: list[int] = []

    def evaluate(predict: object) -> float:
        seen.append(1)
        return 100.0 - 50.0 * (len(seen) > 1)

    bundle = dsedge.compile(
        linear(),
        target=TARGET,
        runtime="openvino",
        precision="bf16",
        evaluate=evaluate,
        max_drop=1.0,
        output=tmp_path / "out",
    )
    assert len(seen) == 2 and bundle.manifest.precision.precision == "float32"
    assert [gate.name for gate in bundle.manifest.failed] == ["evaluate_drop"]
    assert any("the one try in BF16 failed a gate" in note for note in bundle.manifest.notes)
