"""The whole flow, on real models and the real runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import run, samples
from graphs import Net, as_model, chain, lstm, residual, signed_concat, two_inputs

import dsedge
from dsedge.bench.runner import sqnr
from dsedge.bundle import Bundle, Manifest
from dsedge.compiler import preview
from dsedge.data import Feeds
from dsedge.errors import BundleError
from dsedge.model import Model
from dsedge.target import load_target
from dsedge.verify import verify_bundle

MODELS = Path(__file__).parents[1] / "models"
DIGITS, FRAUD = MODELS / "digits_cnn", MODELS / "fraud_lstm"
BOARD = "raspberry-pi-5"  # its latency is not measured here, so nothing depends on how busy this machine is


def arrays(model: Model, count: int = 8, scale: float = 1.0) -> list[Feeds]:
    return [{k: v * np.float32(scale) for k, v in batch.feeds.items()} for batch in samples(model, count)]


def operators(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(bundle.file("model")).graph.node]


def passed(manifest: Manifest) -> dict[str, bool | None]:
    return {gate.name: gate.passed for gate in manifest.gates}


def notes(manifest: Manifest, step: str) -> list[str]:
    return next(record.notes for record in manifest.passes if record.name == step)


def like_float(model: Model) -> Callable[[Any], float]:
    """A judge: dB against the float model, 120 at most."""
    batches = samples(model, 4, seed=3)
    (reference,) = run(model.graph, batches)

    def evaluate(predict: Callable[[Feeds], list[np.ndarray]]) -> float:
        got = np.concatenate([np.ravel(predict(batch.feeds)[0]) for batch in batches])
        return min(sqnr(reference, got) or 120.0, 120.0)

    return evaluate


def test_a_trained_network_from_its_file(tmp_path: Path) -> None:
    bundle = dsedge.compile(
        DIGITS / "digits_cnn.onnx",
        target="raspberry-pi",
        calibration=DIGITS / "calibration.npz",
        evaluate=(DIGITS / "evaluation.npz", "top1"),
        max_drop=0.5,
        output=tmp_path / "out",
    )
    m = bundle.manifest
    assert (m.target.name, m.target.board, m.runtime.variant) == ("raspberry-pi", BOARD, "arm-dotprod")
    assert m.failed == []
    assert passed(m) == {"top1_drop": True, "latency_vs_float": None, "size": True}
    (metric,) = m.metrics
    assert metric.float > 99
    assert metric.drop == pytest.approx(metric.float - metric.quantized)
    assert metric.samples == 500
    assert m.precision.precision == "int8"
    assert m.precision.int8_ops > 10 * m.precision.float_ops or m.precision.float_ops <= 3
    assert m.fidelity.sqnr_db > 30
    assert m.fidelity.top1_agreement == 1.0
    assert m.calibration.source.endswith("calibration.npz")
    assert m.calibration.samples > 0
    assert m.calibration.sha256
    assert bundle.file("model").stat().st_size < (DIGITS / "digits_cnn.onnx").stat().st_size / 3
    verify_bundle(bundle)


def test_a_recurrent_network_is_dynamic(tmp_path: Path) -> None:
    bundle = dsedge.compile(
        FRAUD / "fraud_lstm.onnx",
        target=BOARD,
        calibration=FRAUD / "calibration.npz",
        evaluate=(FRAUD / "evaluation.npz", "auc"),
        max_drop=0.5,
        recipe="tabular",
        output=tmp_path / "out",
    )
    assert bundle.manifest.precision.precision == "int8_dynamic"
    assert bundle.manifest.failed == []
    assert bundle.manifest.calibration.method == "minmax"
    assert "DynamicQuantizeLSTM" in operators(bundle)
    verify_bundle(bundle)


def test_two_compilations_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for i in range(2):
        monkeypatch.setenv("DSEDGE_CACHE", str(tmp_path / f"cache{i}"))
        model = residual()
        folders.append(dsedge.compile(model, target=BOARD, calibration=arrays(model), output=tmp_path / str(i)).path)
    for name in ("model.onnx", "plan.json", "run.py"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    goldens = [dict(np.load(folder / "golden.npz")) for folder in folders]
    for name, array in goldens[0].items():
        np.testing.assert_array_equal(array, goldens[1][name])


def test_statistics_are_cached(tmp_path: Path) -> None:
    cached = "statistics were taken from the cache"
    model, data = residual(), tmp_path / "data.npz"

    def calibrated(seed: int, **kwargs: Any) -> tuple[bool, bytes]:
        np.savez(data, x=np.concatenate([b.feeds["x"] for b in samples(model, 8, seed=seed)]))
        bundle = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "out", force=True, **kwargs)
        assert bundle.manifest.calibration.samples == 8
        return cached in notes(bundle.manifest, "calibrate"), bundle.file("model").read_bytes()

    first = calibrated(0)
    assert not first[0]
    assert calibrated(0) == (True, first[1])
    assert not calibrated(1)[0], "other data"
    assert not calibrated(0, recipe="tabular")[0], "another method"


def test_images_under_another_recipe_are_other_data(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(4):
        image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "images" / f"{i}.png")
    net = Net(x=(1, 3, 12, 12))
    model = net.model(net.head(net.conv(net.conv("x", 16, act="Relu"), 16, act="Relu")))

    def ranges(scale: float) -> list[float]:
        recipe = tmp_path / f"scale{scale}.toml"
        recipe.write_text(
            f'title = "t"\nkind = "image"\nresize = 12\ncrop = 12\ninterpolation = "bilinear"\ncolor = "rgb"\n'
            f'scale = {scale}\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\nmethod = "minmax"\nwhy = "a test"\n'
        )
        bundle = dsedge.compile(
            model, target=BOARD, calibration=tmp_path / "images", recipe=recipe, output=tmp_path / "o", force=True
        )
        model_file = onnx.load(bundle.file("model"))
        return [float(onnx.numpy_helper.to_array(t)) for t in model_file.graph.initializer if t.name == "x_scale"]

    small, large = ranges(0.001), ranges(0.01)
    assert large == pytest.approx([10 * s for s in small], rel=1e-3)


@pytest.mark.parametrize("kind", ["generator", "list of arrays", "mapping", "tuples"])
def test_calibration_from_python(tmp_path: Path, kind: str) -> None:
    model = two_inputs() if kind == "tuples" else chain()
    feeds = arrays(model, 40)

    def generator() -> Iterator[Feeds]:
        yield from feeds

    data: Any = {
        "generator": generator(),
        "list of arrays": [f[model.inputs[0].name] for f in feeds],
        "mapping": {"x": np.concatenate([f[model.inputs[0].name] for f in feeds])},
        "tuples": [tuple(f.values()) for f in feeds],
    }[kind]
    m = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "out").manifest
    assert m.calibration.samples == 40
    assert m.calibration.sha256
    assert m.failed == []


def test_a_torch_module_and_a_data_loader(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 4, 3))
    data = torch.utils.data.TensorDataset(torch.randn(20, 8, 10, 10))
    bundle = dsedge.compile(
        net,
        example_inputs=torch.randn(2, 8, 10, 10),
        target=BOARD,
        calibration=torch.utils.data.DataLoader(data, batch_size=6),
        output=tmp_path / "out",
    )
    assert bundle.manifest.calibration.samples == 20
    assert bundle.manifest.model.name == "Sequential"
    assert bundle.manifest.precision.precision == "int8"


def test_random_data_is_stamped(tmp_path: Path) -> None:
    m = dsedge.compile(chain(), target=BOARD, calibration="random", output=tmp_path / "out").manifest
    assert m.calibration.source == "random"
    assert any("random" in note for note in m.notes)


def test_a_judge_of_the_user_s_own(tmp_path: Path) -> None:
    model = chain()
    m = dsedge.compile(
        model,
        target=BOARD,
        calibration=arrays(model),
        evaluate=like_float(model),
        max_drop=100,
        output=tmp_path / "out",
    ).manifest
    (metric,) = m.metrics
    assert metric.float > 80
    assert 20 < metric.quantized < 80
    assert metric.drop == pytest.approx(metric.float - metric.quantized, abs=1e-4)
    assert passed(m)["evaluate_drop"] is True


def test_when_no_int8_artifact_passes_the_float_one_is_shipped(tmp_path: Path) -> None:
    model = chain()
    bundle = dsedge.compile(
        model,
        target=BOARD,
        calibration=arrays(model),
        evaluate=like_float(model),
        max_drop=0.0,
        output=tmp_path / "out",
    )
    m = bundle.manifest
    assert [gate.name for gate in m.failed] == ["evaluate_drop"]
    assert m.failed[0].value > m.failed[0].limit == 0.0
    assert m.precision.precision == "float32"
    assert (m.precision.int8_ops, len(m.precision.islands)) == (0, m.precision.float_ops)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operators(bundle))
    assert m.metrics[0].drop == 0.0
    assert any("this is the float one" in note for note in m.notes)
    assert m.status == "verified"
    assert sorted(p.name for p in bundle.path.iterdir() if p.is_dir()) == []
    verify_bundle(bundle)


def test_the_layer_that_costs_the_most_is_lifted(tmp_path: Path) -> None:
    """A channel a thousand times greater than the others, which the next convolution does not read."""
    net = Net(x=(1, 8, 12, 12))
    y = net.conv("x", 16, act="Relu")
    scale = np.ones((1, 16, 1, 1), np.float32)
    scale[0, 3] = 1000
    y = net.op("Abs", net.op("Mul", y, net.const(scale)))
    net.channels[y] = 16
    y = net.conv(y, 16)
    weight = next(w for w in net.weights if w.name == net.nodes[-1].input[1])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[:, 3] = 0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    y = net.op("Abs", y)
    net.channels[y] = 16
    model = net.model(net.conv(y, 8))
    m = dsedge.compile(
        model, target=BOARD, calibration=arrays(model), evaluate=like_float(model), max_drop=95, output=tmp_path / "out"
    ).manifest
    assert m.failed == []
    assert m.precision.precision == "int8"
    lifted = [island for island in m.precision.islands if "accuracy gate" in island.reason]
    assert "Conv_4" in {island.node for island in lifted}
    assert len(lifted) < 3, "not everything"
    assert any("Conv_4" in note and "accuracy gate" in note for note in m.notes)


def test_nothing_to_quantize(tmp_path: Path) -> None:
    net = Net(x=("N", 8))
    bundle = dsedge.compile(net.model(net.op("Exp", "x")), target=BOARD, calibration="random", output=tmp_path / "out")
    assert [gate.name for gate in bundle.manifest.failed] == ["int8"]
    assert bundle.manifest.precision.precision == "float32"
    assert "no INT8 kernel" in bundle.manifest.precision.islands[0].reason
    verify_bundle(bundle)


@pytest.mark.parametrize("scale", [1, 300])
def test_a_recurrent_network_over_features_of_unequal_scale(tmp_path: Path, scale: float) -> None:
    """The runtime quantizes the input of an LSTM as a whole: INT8 may then be bad, but never without a word."""
    model = lstm(hidden=128)
    data = arrays(model, 16)
    for feeds in data:
        feeds["x"][..., 0] *= np.float32(scale)
    m = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "out").manifest
    near = m.fidelity.sqnr_db is None or m.fidelity.sqnr_db > 15
    assert near or m.failed or m.notes


def test_branches_with_and_without_relu_run_in_int8(tmp_path: Path) -> None:
    model = signed_concat()
    kwargs = {"target": "pos-x86", "runtime": "onnxruntime", "calibration": arrays(model)}
    m = dsedge.compile(model, **kwargs, output=tmp_path / "out").manifest
    assert "Conv" not in {island.op for island in m.precision.islands} or m.precision.precision == "float32"


def test_the_default_output_and_an_existing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = dsedge.compile(chain(), target=BOARD, calibration="random")
    assert bundle.path == Path("build") / f"net-{BOARD}"
    with pytest.raises(BundleError) as caught:
        dsedge.compile(chain(), target=BOARD, calibration="random")
    assert (caught.value.code, caught.value.where) == ("DS801", str(bundle.path))
    created = bundle.manifest.passes
    again = dsedge.compile(residual(), target=BOARD, calibration="random", force=True)
    assert again.path == bundle.path
    assert len(again.manifest.passes) == len(created)
    assert sorted(p.name for p in Path("build").iterdir()) == [bundle.path.name]


def test_an_old_opset_is_brought_to_the_canonical_one(tmp_path: Path) -> None:
    net = Net(x=("N", 8, 12, 12), opset=11)
    model = net.model(net.conv(net.conv("x", 16, act="Relu"), 8))
    bundle = dsedge.compile(model, target=BOARD, calibration="random", output=tmp_path / "out")
    assert (bundle.manifest.model.source_opset, bundle.manifest.model.opset) == (11, 20)
    assert bundle.manifest.precision.precision == "int8"


def test_a_preview_needs_no_data() -> None:
    plan = preview(residual(), load_target(BOARD))
    assert plan.quantized
    assert all(value.qparams is None for value in plan.values.values())
    assert as_model(onnx.load(DIGITS / "digits_cnn.onnx")).opset == 20


def test_a_bundle_tells_nothing_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    """The exporter writes stack traces with the paths of sources into the graph."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
    data = [np.random.default_rng(i).standard_normal((3, 12, 12)).astype(np.float32) for i in range(4)]
    bundle = dsedge.compile(
        module, target=BOARD, calibration=data, example_inputs=torch.zeros(2, 3, 12, 12), output=tmp_path / "out"
    )
    for file in bundle.path.iterdir():
        content = file.read_bytes()
        assert b"stack_trace" not in content, file.name
        assert str(tmp_path).encode() not in content, file.name
        assert str(Path(__file__).parents[1]).encode() not in content, file.name


def test_changed_weights_are_another_model_to_the_cache(tmp_path: Path) -> None:
    model = chain()
    data = tmp_path / "c.npz"
    np.savez(data, x=np.concatenate([batch["x"] for batch in arrays(model, 8)]))
    first = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "first").manifest
    name, value = next((n, v) for n, v in model.graph.graph.initializers.items() if len(v.shape) == 4)
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(50), name=name)
    second = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "second").manifest
    assert second.fidelity.sqnr_db > first.fidelity.sqnr_db - 10
