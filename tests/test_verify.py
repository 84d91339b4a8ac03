from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from flow import samples
from graphs import chain, multi_output

from dsedge.backends.base import load_backend
from dsedge.bundle import Bundle, Steps, sha256
from dsedge.data import Batch
from dsedge.errors import BuildError, BundleError, PassError, VerifyError
from dsedge.passes.normalize import normalize
from dsedge.verify import fidelity, golden_count, open_artifact, same_function, steps, verify_bundle

RNG = np.random.default_rng(0)


def noisy(outputs: list[list[np.ndarray]], db: float) -> list[list[np.ndarray]]:
    return [[a * np.float32(1 + 10 ** (-db / 20)) for a in sample] for sample in outputs]


OUTPUTS = [
    [RNG.standard_normal((1, 10)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)] for _ in range(6)
]


def batches(outputs: list[list[np.ndarray]]) -> list[Batch]:
    return [Batch({"x": np.zeros((1, 2), np.float32)}, 1, None)] * len(outputs)


def test_the_normalized_graph_computes_the_same() -> None:
    model = multi_output()
    assert same_function(model, normalize(model)[0], samples(model, 2)) < 1e-5


def test_a_graph_that_computes_something_else_is_refused() -> None:
    model = multi_output()
    changed = model.with_graph(model.graph.clone())
    bias = changed.graph.graph.initializers["const_5"]
    bias.const_value = ir.tensor(bias.const_value.numpy() * np.float32(1.5), name=bias.name)
    with pytest.raises(PassError) as caught:
        same_function(model, changed, samples(model, 2))
    assert caught.value.code == "DS302"
    assert "'conv_4'" in str(caught.value)


def test_a_graph_that_gives_nan_is_refused() -> None:
    model = chain()
    changed = model.with_graph(model.graph.clone())
    bias = changed.graph.graph.initializers["const_6"]
    bias.const_value = ir.tensor(np.full(10, np.nan, np.float32), name=bias.name)
    with pytest.raises(PassError):
        same_function(model, changed, samples(model, 1))


def test_fidelity() -> None:
    near = fidelity(batches(OUTPUTS), OUTPUTS, noisy(OUTPUTS, 30)[:2], noisy(OUTPUTS, 28))
    assert near.sqnr_db == pytest.approx(28, abs=0.01)
    assert near.reference_sqnr_db == pytest.approx(30, abs=0.01)
    assert near.golden_sqnr_db == pytest.approx([28, 28], abs=0.01)
    assert near.max_abs == pytest.approx(max(np.abs(a).max() for s in OUTPUTS for a in s) * 10 ** (-28 / 20), rel=1e-3)
    assert near.top1_agreement == 1.0
    assert near.samples == 6


def test_distance_in_steps_of_the_output() -> None:
    simulated = [[np.arange(200, dtype=np.float32) / 8, np.ones(3, np.float32)] for _ in range(2)]
    got = [[a.copy() for a in sample] for sample in simulated]
    got[1][0][3] += 2 / 8
    assert steps([1 / 8, None], simulated, got) == [Steps(max=2, exact=0.9975), None]
    got[0][0] = got[0][0][:5]
    assert steps([1 / 8, 1.0], got, got)[1] == Steps(max=0, exact=1.0)


def test_identical_outputs() -> None:
    near = fidelity(batches(OUTPUTS), OUTPUTS, OUTPUTS[:2], OUTPUTS)
    assert (near.sqnr_db, near.max_abs, near.top1_agreement) == (None, 0.0, 1.0)


def test_an_artifact_that_is_worse_than_its_graph() -> None:
    with pytest.raises(VerifyError) as caught:
        fidelity(batches(OUTPUTS), OUTPUTS, noisy(OUTPUTS, 30)[:2], noisy(OUTPUTS, 10))
    assert caught.value.code == "DS501"


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_artifact_that_gives_nan(output: int, value: float) -> None:
    got = noisy(OUTPUTS, 30)
    got[1][output] = np.full_like(got[1][output], value)
    with pytest.raises(VerifyError):
        fidelity(batches(OUTPUTS), OUTPUTS, noisy(OUTPUTS, 30)[:2], got)


def test_agreement_of_classes() -> None:
    wrong = [[-s[0], s[1]] if i < 2 else s for i, s in enumerate(OUTPUTS)]
    assert fidelity(batches(OUTPUTS), OUTPUTS, wrong[:2], wrong).top1_agreement == pytest.approx(4 / 6)
    ids = [[s[0].argmax(-1), s[0]] for s in OUTPUTS]
    other = [[i[0] + 1, i[1]] for i in ids]
    assert fidelity(batches(ids), ids, ids[:1], ids).top1_agreement == 1.0
    assert fidelity(batches(ids), ids, other[:1], other).top1_agreement == 0.0
    no_classes = [[np.ones((1, 3, 4, 4), np.float32)]]
    assert fidelity(batches(no_classes), no_classes, no_classes[:1], no_classes).top1_agreement is None


def test_of_integers_the_equal_ones_count() -> None:
    ids = [[np.arange(4), np.ones(2, np.float32)] for _ in range(2)]
    off = [[np.array([0, 1, 2, 9]), np.ones(2, np.float32)], ids[1]]
    assert fidelity(batches(ids), ids, off[:1], off).equal == pytest.approx(7 / 8)
    assert fidelity(batches(OUTPUTS), OUTPUTS, OUTPUTS[:2], OUTPUTS).equal is None


def test_golden_samples_have_one_shape() -> None:
    given = [Batch({"x": np.zeros((1, n), np.float32)}, 1, None) for n in (3, 3, 4, 3)]
    outputs = [[np.zeros(2)]] * 4
    assert golden_count(given, outputs, outputs) == 2
    assert golden_count(given[:1], outputs[:1], outputs[:1]) == 1
    assert golden_count(given[:2] * 5, [outputs[0]] * 10, [outputs[0]] * 10) == 4
    assert golden_count(given[:2], outputs[:2], [outputs[0], [np.zeros(3)]]) == 1


def test_every_output_counts() -> None:
    """A ruined output does not hide behind one that is worse by nature."""
    simulated = [[noisy([s], 8)[0][0], noisy([s], 40)[0][1]] for s in OUTPUTS]
    ruined = [[noisy([s], 8)[0][0], noisy([s], 9)[0][1]] for s in OUTPUTS]
    with pytest.raises(VerifyError):
        fidelity(batches(OUTPUTS), OUTPUTS, simulated[:2], ruined)


def test_samples_of_a_batch_count_one_by_one() -> None:
    scores = RNG.standard_normal((4, 10)).astype(np.float32)
    off = scores.copy()
    off[1] = -off[1]
    batch = Batch({"x": np.zeros((4, 2), np.float32)}, 3, None, padding=1)
    near = fidelity([batch], [[scores]], [[off]], [[off]])
    assert (near.samples, near.top1_agreement) == (3, pytest.approx(2 / 3))


def test_an_artifact_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(VerifyError) as caught:
        open_artifact(load_backend("onnxruntime"), tmp_path / "model.onnx")
    assert caught.value.code == "DS502"


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle(bundle_folder)


def test_a_bundle_verifies(bundle: Bundle) -> None:
    found = verify_bundle(bundle)
    assert found["max_abs_from_expected"] == pytest.approx(0.0, abs=1e-5)
    assert found["sqnr_db"] == pytest.approx(bundle.manifest.fidelity.golden_sqnr_db, abs=0.5)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "run.py", "plan.json", "report.html"])
def test_a_file_that_was_changed_is_named(bundle: Bundle, name: str) -> None:
    content = bytearray((bundle.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / name).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle)
    assert (caught.value.code, caught.value.where) == ("DS803", name)


def replace_golden(bundle: Bundle, **arrays: np.ndarray) -> Bundle:
    """Other golden arrays, with a hash that fits."""
    path = bundle.path / "golden.npz"
    with np.load(path) as data:
        np.savez(path, **(dict(data) | arrays))
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    for info in manifest["files"]:
        if info["role"] == "golden":
            info |= {"sha256": sha256(path), "bytes": path.stat().st_size}
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    return Bundle(bundle.path)


def test_golden_outputs_that_are_not_reached(bundle: Bundle) -> None:
    with np.load(bundle.path / "golden.npz") as data:
        wrong = data["float_0"][::-1].copy()
    with pytest.raises(VerifyError) as caught:
        verify_bundle(replace_golden(bundle, float_0=wrong))
    assert caught.value.code == "DS501"


def test_golden_inputs_that_do_not_fit(bundle: Bundle) -> None:
    with pytest.raises(VerifyError) as caught:
        verify_bundle(replace_golden(bundle, input_0=np.zeros((4, 1, 3, 3, 3), np.float32)))
    assert caught.value.code == "DS502"


def test_a_bundle_whose_runtime_is_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsedge.backends.onnxruntime.version", lambda: None)
    with pytest.raises(BuildError) as caught:
        verify_bundle(bundle)
    assert caught.value.code == "DS402" and "pip install" in str(caught.value.hint)
