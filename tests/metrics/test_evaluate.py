"""How outputs come to a metric: padding, batch axes, which output, the float model in the place of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from sklearn.metrics import roc_auc_score

from dsedge.accuracy import judge_by
from dsedge.data import Data, Feeds, open_data
from dsedge.errors import LoadError
from dsedge.metrics import METRICS, evaluate, find_metric
from dsedge.model import Model


def identity_model(shape: list[int | str | None]) -> Model:
    """Two outputs: `y` is the input, `z` the same with its sign changed."""
    x, y, z = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y", "z"))
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y, z]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return Model(ir.from_proto(proto), "identity", "0" * 64, "test", 20)


def run(model: Model, data: Data, metric: str) -> tuple[float, int]:
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])

    def predict(feeds: Feeds) -> list[np.ndarray]:
        return list(session.run(None, feeds))

    return evaluate(predict, data, find_metric(metric, ["y", "z"]))


@pytest.mark.parametrize("batch", ["n", 1, 8])
def test_evaluate_ignores_padding(batch: int | str) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((37, 10)).astype(np.float32), rng.integers(0, 10, 37)
    model = identity_model([batch, 10])
    data = open_data({"x": scores, "labels": labels}, model, labelled=True)
    got, samples = run(model, data, "top1")
    assert samples == 37
    assert got == pytest.approx(100 * np.mean(scores.argmax(1) == labels))


def test_another_output_is_judged_by_name() -> None:
    scores = np.eye(4, dtype=np.float32)
    model = identity_model(["n", 4])
    data = open_data({"x": scores, "labels": np.arange(4)}, model, labelled=True)
    assert [run(model, data, name)[0] for name in ("top1", "top1@y", "top1@z")] == [100.0, 100.0, 0.0]
    with pytest.raises(LoadError, match="did you mean 'y'") as caught:
        find_metric("top1@yy", ["y", "z"])
    assert caught.value.code == "DS125"


def test_evaluate_a_model_without_a_batch_axis() -> None:
    scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3]]
    model = identity_model([4])
    data = open_data([(s, label) for s, label in zip(scores, [0, 1, 2, 3, 0], strict=True)], model, labelled=True)
    assert run(model, data, "top1") == (80.0, 5)


def test_evaluate_auc_over_all_batches() -> None:
    rng = np.random.default_rng(1)
    scores, labels = np.round(rng.standard_normal((100, 1)), 1).astype(np.float32), rng.integers(0, 2, 100)
    model = identity_model(["n", 1])
    data = open_data({"x": scores, "labels": labels}, model, labelled=True)
    assert run(model, data, "auc")[0] == pytest.approx(100 * roc_auc_score(labels, scores))


def test_nan_outputs_have_no_value() -> None:
    model = identity_model(["n", 3])
    data = open_data({"x": np.zeros((40, 3), np.float32), "labels": np.arange(40) % 2}, model, labelled=True)
    for metric in ("top1", "auc", "sqnr"):
        got, samples = evaluate(lambda feeds: [feeds["x"] * np.nan], data, find_metric(metric))
        assert np.isnan(got) and samples == 40


def test_what_cannot_be_judged() -> None:
    model = identity_model(["n", 3])
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(LoadError, match=r"DS124.*labels"):
        run(model, open_data({"x": x}, model), "top1")
    data = open_data({"x": x, "labels": np.zeros(4, int)}, model, labelled=True)
    with pytest.raises(LoadError, match=r"DS124.*shape \[3, 3\] for 4 samples"):
        evaluate(lambda feeds: [feeds["x"][:3]], data, find_metric("top1"))
    for nothing in (["a"], {"class": 1}, [{0: 0.5}] * 4, np.array(["a"] * 4)):
        with pytest.raises(LoadError, match=r"DS124.*output 0 is no array of numbers"):
            evaluate(lambda feeds, nothing=nothing: [nothing], data, find_metric("top1"))  # type: ignore[misc]


@pytest.mark.parametrize("lengths", [(3, 3, 5), (3, 5, 3)])
def test_samples_of_different_lengths(lengths: tuple[int, ...]) -> None:
    """A label for each step; every step counts once."""
    model = identity_model(["n", "t", 2])
    rng = np.random.default_rng(0)
    samples = [(rng.standard_normal((n, 2)).astype(np.float32), rng.integers(0, 2, n)) for n in lengths]
    data = open_data(samples, model, labelled=True)
    hits = np.concatenate([x.argmax(1) == label for x, label in samples])
    got, count = run(model, data, "top1")
    assert (got, count) == (pytest.approx(100 * hits.mean()), 3)


def test_sqnr_and_agreement_need_no_labels_and_compare_with_what_was_judged_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, 5)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    model = identity_model(["n", 5])

    def worse(feeds: Feeds) -> list[np.ndarray]:
        y = feeds["x"]
        return [y, -y - 0.1 * np.sign(y)]

    def flipped(feeds: Feeds) -> list[np.ndarray]:
        return [np.where(feeds["x"][:, :1] > 0, feeds["x"], -feeds["x"]), -feeds["x"]]

    def judged(name: str, other: object) -> object:
        judge = judge_by((tmp_path / "d.npz", name), 5.0, model, None)
        assert judge is not None
        reference, samples = judge.measured(lambda feeds: [feeds["x"], -feeds["x"]])
        assert (reference, samples) == (200.0 if name.startswith("sqnr") else 100.0, 70)
        return judge.compare(reference, other)  # type: ignore[arg-type]

    found = judged("sqnr", worse)
    expected = 10 * np.log10(np.sum(x.astype(float) ** 2) / (0.01 * x.size))
    assert found.quantized == pytest.approx(expected, abs=1e-4), "of the worst output"  # type: ignore[attr-defined]
    assert found.drop == pytest.approx(100 * 10 ** (-expected / 20), abs=1e-4)  # type: ignore[attr-defined]
    assert judged("sqnr@y", worse).drop == 0  # type: ignore[attr-defined]
    assert judged("agreement", worse).drop == 0  # type: ignore[attr-defined]
    assert judged("agreement", flipped).quantized == pytest.approx(100 * np.mean(x[:, 0] > 0))  # type: ignore[attr-defined]


def test_a_function_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metrics.py").write_text(
        "import numpy as np\n"
        "def within(outputs, labels):\n    return 100 * np.mean(np.abs(outputs[1][:, 0] + labels) < 0.5)\n"
        "def broken(outputs, labels):\n    return outputs[7]\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    model = identity_model(["n", 1])
    data = open_data({"x": np.arange(50.0)[:, None], "labels": np.r_[0.0:40.0, 0.0:10.0]}, model, labelled=True)
    assert run(model, data, "my_metrics:within") == (80.0, 50)
    for name, words in (
        ("my_metrics:broken", "IndexError"),
        ("my_metrics:missing", "no attribute 'missing'"),
        ("my_metrics:number", "no function"),
        ("no_such_module:f", "No module named"),
    ):
        with pytest.raises(LoadError, match=words) as caught:
            run(model, data, name)
        assert caught.value.code == "DS125"


def test_unknown_metric() -> None:
    with pytest.raises(LoadError, match="did you mean 'top1'") as caught:
        find_metric("top-1")
    assert caught.value.code == "DS125"
    assert all(metric.unit and metric.name == name for name, metric in METRICS.items())
