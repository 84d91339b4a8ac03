"""What every backend must keep to, whoever wrote it: each discovered one, on one small trained model."""

from __future__ import annotations

import inspect
import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsedge.backends.base import (
    Audit,
    Backend,
    Finding,
    available,
    device_result,
    is_deferred,
    is_ready,
    load_backend,
)
from dsedge.bench.runner import sqnr
from dsedge.data import open_data
from dsedge.frontend import load
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.target import Target, known_targets, load_target
from dsedge.verify import open_artifact, predictor, run_all

BACKENDS = sorted(available())
BOARDS = [load_target(name) for name in known_targets()]
TARGETS = {name: [board for board in BOARDS if name in [r.name for r in board.runtimes]] for name in BACKENDS}
DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_backend(request.param)


def loaded(backend: Backend) -> Model:
    """The model as the flow hands it to the backend."""
    model = load(DIGITS / "digits_cnn.onnx")
    static = backend.contract(TARGETS[backend.NAME][0]).static
    return with_static_axes(model, backend.NAME)[0] if static else model


def test_it_has_the_names_of_the_protocol(backend: Backend) -> None:
    assert backend.NAME in BACKENDS
    assert available()[backend.NAME].rpartition(".")[2] == backend.NAME
    assert isinstance(backend.EXTRA, str)
    assert backend.RUNNER.is_file()
    for name, method in inspect.getmembers(Backend, inspect.isfunction):
        if name.startswith("_"):
            continue
        wanted = [p for p in inspect.signature(method).parameters if p != "self"]
        given = getattr(backend, name)
        assert list(inspect.signature(given).parameters) == wanted, name
        assert given.__doc__


def test_it_is_there(backend: Backend) -> None:
    assert is_ready(backend), "the development environment has every runtime"
    assert bool(backend.version()) != is_deferred(backend), "a deferred one is on the device"


def test_a_deferred_one_finishes_bundles_and_reads_reports(backend: Backend, tmp_path: Path) -> None:
    wanted = {"finish": ["folder", "made", "target"], "result": ["folder"]}
    for name, parameters in wanted.items():
        assert hasattr(backend, name) == is_deferred(backend)
        if is_deferred(backend):
            assert list(inspect.signature(getattr(backend, name)).parameters) == parameters
    if is_deferred(backend):
        assert device_result(backend, tmp_path) is None


def test_some_board_lists_it(backend: Backend) -> None:
    assert TARGETS[backend.NAME]


def test_it_has_a_contract_for_every_board_that_lists_it(backend: Backend) -> None:
    newest = onnx.defs.onnx_opset_version()
    for target in TARGETS[backend.NAME]:
        contract = backend.contract(target)
        assert isinstance(contract, Contract)
        assert contract.runtime == backend.NAME
        assert contract.otherwise
        assert contract == backend.contract(target)
        low, high = contract.opset
        assert 10 <= low <= high <= newest
        assert low <= 20, "the canonical opset is within reach"
        general = [(r.domain, r.op) for r in contract.operators if r.only is None]
        assert len(set(general)) == len(general)
        for rule in contract.operators:
            assert rule.because, rule.op
            if not rule.domain:
                assert onnx.defs.has(rule.op), f"{rule.op} is no operator of ONNX"
            if rule.kind == "compute":
                assert rule.weights or rule.inputs is None
        assert "Conv" in {r.op for r in contract.operators if r.kind == "compute"}


def test_it_names_what_it_cannot_run(backend: Backend) -> None:
    header = '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y)'
    proto = onnx.parser.parse_model(f"{header} {{ a = Bogus(x)  b = Relu(a)  y = Fake(b) }}")
    for node in proto.graph.node:
        node.name = f"n_{node.op_type}"
    findings = backend.unsupported(ir.from_proto(proto))
    assert all(isinstance(finding, Finding) for finding in findings)
    assert {(f.node, f.op) for f in findings} >= {("n_Bogus", "Bogus"), ("n_Fake", "Fake")}
    assert all(f.reason for f in findings)
    assert backend.unsupported(loaded(backend).graph) == []


@pytest.fixture
def target(backend: Backend) -> Target:
    """A board that this machine stands for if there is one."""
    boards = TARGETS[backend.NAME]
    return next((board for board in boards if board.matches_host()[0]), boards[0])


def test_it_builds_float_and_int8(backend: Backend, target: Target, tmp_path: Path) -> None:
    source = loaded(backend)
    model = normalize(source)[0]
    data = open_data(DIGITS / "calibration.npz", source)
    batches = data.head(16)
    contract = backend.contract(target)
    plan = annotate(model.graph.graph, contract)
    assert plan.quantized
    observers, _ = calibrate(model.graph, list(plan.values), batches, "minmax")
    plan = assign_ranges(plan, model.graph.graph, contract, observers, "minmax")
    quantized = insert(model.graph, plan, contract)
    before = ir.to_proto(quantized).SerializeToString()
    reference = run_all(predictor(source.graph), batches)
    floors = {"float": 60.0, "int8": 25.0}
    sizes = {}
    for name, graph in (("float", model.graph), ("int8", quantized)):
        folder = tmp_path / name
        folder.mkdir()
        artifact = backend.build(graph, folder)
        assert all(file.parent == folder for file in artifact.files)
        sizes[name] = artifact.bytes
        got = run_all(open_artifact(backend, artifact.main, 1), batches)
        ratio = sqnr(np.concatenate([s[0] for s in reference]), np.concatenate([s[0] for s in got]))
        assert ratio is None or ratio > floors[name]
    assert sizes["int8"] < sizes["float"] / 2
    assert ir.to_proto(quantized).SerializeToString() == before
    audit = backend.audit(artifact, plan, target)
    assert isinstance(audit, Audit)
    assert audit.unmatched == {}
    assert audit.summary
    assert audit.int8_ops > audit.float_ops


def test_its_runner_stands_alone(backend: Backend, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds everything beside itself, and has no way to be told where it is."""
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    if manifest["runtime"]["name"] != backend.NAME:
        pytest.skip("the small bundle is for another runtime")
    assert (bundle_folder / "run.py").read_bytes() == backend.RUNNER.read_bytes()
    monkeypatch.chdir(bundle_folder.parent)
    monkeypatch.setattr("sys.argv", ["run.py"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(bundle_folder / "run.py"), run_name="__main__")
    assert caught.value.code == 0
