"""The artifact: sums in the kernel, half precision, open axes, and the audit of what was compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import quantized
from graphs import Net, chain, image, inverted_residual, residual

pytest.importorskip("openvino")

import dsedge
from dsedge.backends import openvino as backend
from dsedge.backends.openvino.audit import executed
from dsedge.backends.openvino.convert import convert
from dsedge.backends.openvino.sums import merge_sums
from dsedge.errors import BundleError, VerifyError
from dsedge.inspect import inspect_artifact
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.insert import insert
from dsedge.quant.precision import annotate_as_asked, parse_request
from dsedge.target import load_target

TARGET = load_target("pos-x86")
OTHER = TARGET.model_copy(update={"architecture": "aarch64"})
"""A board for which nothing is timed: no race decides what it gets."""
CONTRACT = backend.contract(TARGET)
on_host = pytest.mark.skipif(not TARGET.matches_host()[0], reason=TARGET.matches_host()[1])


def joined() -> Model:
    """A bottleneck of YOLOv5: its sum goes into a Concat, and the quantizer stands behind that."""
    net = image()
    x = net.conv("x", 16, act="SiLU")
    total = net.op("Add", x, net.conv(net.conv(x, 16, 1, act="SiLU"), 16, act="SiLU"))
    y = net.op("Concat", total, net.conv("x", 16, 1, act="SiLU"), axis=1)
    net.channels[y] = 32
    return net.model(net.head(net.conv(y, 32, 1, act="SiLU")))


@on_host
@pytest.mark.parametrize("source", [residual, inverted_residual, joined])
def test_sums_are_inside_of_convolutions(source: object, tmp_path: Path) -> None:
    m = quantized(source(), CONTRACT)  # type: ignore[operator]
    operators = executed(backend.build(m.model, tmp_path).main)
    sums = [n for n in m.plan.nodes.values() if n.op_type == "Add"]
    assert sums
    for node in sums:
        assert {o.kind for o in operators if o.holds(node)} == {"Convolution"}


def test_a_quantizer_behind_a_concat_counts_for_the_sum_before_it() -> None:
    assert merge_sums(convert(quantized(joined(), CONTRACT).model)) == 1


@on_host
def test_the_audit_names_what_runs_in_float(tmp_path: Path) -> None:
    """The plan is that of a graph in which one convolution was quantized, the artifact that of one where it was not."""
    m = quantized(chain(), CONTRACT)
    victim = [n.name for n in m.plan.nodes.values() if n.op_type == "Conv"][1]
    broken = quantized(chain(), CONTRACT, lifted={victim: "for the test"})
    found = backend.audit(backend.build(broken.model, tmp_path), m.plan, TARGET)
    assert set(found.unmatched) == {victim}
    assert "f32" in found.unmatched[victim]
    whole = backend.audit(backend.build(m.model, tmp_path), m.plan, TARGET)
    behind = sum(n.head == victim for n in m.plan.nodes.values())
    assert (whole.int8_ops - found.int8_ops, found.float_ops - whole.float_ops) == (1 + behind, 1 + behind)
    assert "Convolution u8" in whole.lowered[victim]


@on_host
def test_what_was_compiled_is_inspected(tmp_path: Path) -> None:
    bundle = dsedge.compile(chain(), target=OTHER, runtime="openvino", calibration="random", output=tmp_path / "out")
    found = inspect_artifact(bundle)
    assert found is not None and found.operators["Convolution"] == {"u8": 3}
    assert found.bytes == sum((bundle.path / f"model.{suffix}").stat().st_size for suffix in ("xml", "bin"))
    for damaged in (b"", bundle.file("model").read_bytes()[:200]):
        bundle.file("model").write_bytes(damaged)
        with pytest.raises(BundleError, match="DS803"):
            inspect_artifact(bundle)


def test_another_cpu_is_not_audited(tmp_path: Path) -> None:
    m = quantized(chain(), CONTRACT)
    found = backend.audit(backend.build(m.model, tmp_path), m.plan, OTHER)
    assert (found.performed, found.unmatched) == (False, {})
    assert "not audited here" in found.summary


def linear() -> Model:
    net = Net(x=("N", 256))
    return net.model(net.gemm("x", 256, 512))


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    graph = normalize(linear())[0].graph
    plan = annotate_as_asked(graph.graph, CONTRACT, parse_request("fp16"))
    sizes, outputs = [], []
    for name, model in (("float", graph), ("half", insert(graph, plan, CONTRACT))):
        (tmp_path / name).mkdir()
        artifact = backend.build(model, tmp_path / name)
        assert [file.name for file in artifact.files] == ["model.xml", "model.bin"]
        sizes.append(artifact.files[1].stat().st_size)
        outputs.append(backend.load(artifact.main, 1)({"x": np.ones((3, 256), np.float32)})[0])
    assert sizes[1] < 0.55 * sizes[0]
    assert outputs[0].shape == (3, 512)
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 1e-2


def test_the_file_says_nothing_of_this_machine(tmp_path: Path) -> None:
    written = backend.build(normalize(chain())[0].graph, tmp_path).main.read_text()
    assert str(tmp_path) not in written
    assert str(Path.home()) not in written


def test_support_names_all_nodes_and_what_is_wrong_with_them() -> None:
    header = '<ir_version: 10, opset_import: ["": 20]> g (float[1,3,4,4] x, bool c) => (float[N] y)'
    body = "<then_branch = t () => (u) { u = Det(x) }, else_branch = e () => (v) { v = Relu(x) }>"
    proto = onnx.parser.parse_model(
        f'{header} {{ a = Conv <auto_pad="WRONG"> (x, x) b = If (c) {body} d = Add(a, b) y = Bogus(d) }}'
    )
    for node in (*proto.graph.node, *proto.graph.node[1].attribute[0].g.node):
        node.name = f"n_{node.op_type}"
    found = {f.op: f for f in backend.unsupported(ir.from_proto(proto))}
    assert set(found) >= {"Conv", "Bogus"}
    assert "auto_pad" in found["Conv"].reason
    assert found["Bogus"].node == "n_Bogus"


@on_host
def test_products_that_are_fused_into_one_kernel_count_as_what_they_compute_in(tmp_path: Path) -> None:
    """Small ones become a Subgraph, of which the plugin gives the type of its input."""
    net = Net(x=(4, 256))
    m = quantized(net.model(net.gemm(net.op("Relu", net.gemm("x", 256, 256)), 256, 256)), CONTRACT)
    found = backend.audit(backend.build(m.model, tmp_path), m.plan, TARGET)
    assert (found.unmatched, found.int8_ops) == ({}, 3)


def test_what_the_plugin_refuses_has_a_code(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(VerifyError, match="DS502"):
        executed(tmp_path / "model.xml")
