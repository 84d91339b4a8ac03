from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from sklearn.metrics import roc_auc_score

from dsedge.data import Data, Feeds, open_data
from dsedge.errors import LoadError
from dsedge.metrics import METRICS, drop, evaluate, find_metric
from dsedge.model import Model


def identity_model(shape: list[int | str | None]) -> Model:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Model(ir.from_proto(proto), "identity", "0" * 64, "test", 20)


def run(model: Model, data: Data, metric: str) -> tuple[float, int]:
    session = ort.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])

    def predict(feeds: Feeds) -> list[np.ndarray]:
        return list(session.run(None, feeds))

    return evaluate(predict, data, find_metric(metric))


def value(metric: str, outputs: object, labels: object) -> float:
    return METRICS[metric].fn(np.asarray(outputs), np.asarray(labels))


@pytest.mark.parametrize("batch", ["n", 1, 8])
def test_evaluate_ignores_padding(batch: int | str) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((37, 10)).astype(np.float32), rng.integers(0, 10, 37)
    model = identity_model([batch, 10])
    data = open_data({"x": scores, "labels": labels}, model, labelled=True)
    got, samples = run(model, data, "top1")
    assert samples == 37
    assert got == pytest.approx(100 * np.mean(scores.argmax(1) == labels))


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
    data = open_data({"x": np.zeros((4, 3), np.float32), "labels": np.arange(4) % 2}, model, labelled=True)
    for metric in ("top1", "auc"):
        got, samples = evaluate(lambda feeds: [feeds["x"] * np.nan], data, find_metric(metric))
        assert np.isnan(got) and samples == 4


def test_unlabelled_data_and_outputs_that_do_not_line_up() -> None:
    model = identity_model(["n", 3])
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(LoadError, match=r"DS124.*labels"):
        run(model, open_data({"x": x}, model), "top1")
    data = open_data({"x": x, "labels": np.zeros(4, int)}, model, labelled=True)
    with pytest.raises(LoadError, match=r"DS124.*shape \[3, 3\] for 4 samples"):
        evaluate(lambda feeds: [feeds["x"][:3]], data, find_metric("top1"))


def test_top_k() -> None:
    scores = [[0.1, 0.9, 0.5], [0.7, 0.7, 0.1], [0.0, 0.2, 0.3], [0.3, 0.2, 0.1]]
    assert value("top1", scores, [1, 1, 2, 0]) == 75.0, "of equal scores argmax takes the first"
    assert value("top5", scores, [0, 0, 0, 0]) == 100.0
    assert value("top5", np.arange(20.0)[None].repeat(2, 0), [15, 14]) == 50.0
    assert value("top1", np.array([1, 2, 3]), [1, 2, 2]) == pytest.approx(100 * 2 / 3), "class ids"
    assert value("top1", np.array([[1], [2]]), [[1], [0]]) == 50.0


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "words"),
    [
        ("top1", [[0.1, 0.9]], [1.0], "integer labels"),
        ("top1", [[0.1, 0.9]], [2], "2 classes"),
        ("top1", [[0.1, 0.9]], [-1], "labels go from -1"),
        ("top5", [[0.1, 0.9]], [0, 1], "2 labels for 1 rows"),
        ("auc", [0.1, 0.9], [1, 1], "both must occur"),
        ("auc", [0.1, 0.9], [1, 2], "0 or 1"),
        ("auc", [[0.1, 0.9, 0.2]], [1], "two classes"),
        ("mae", [[0.1, 0.9]], [1.0], "2 outputs"),
    ],
)
def test_labels_that_do_not_fit(metric: str, outputs: object, labels: object, words: str) -> None:
    with pytest.raises(LoadError, match=words) as caught:
        value(metric, outputs, labels)
    assert caught.value.code == "DS124"


def test_auc() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 200)
    two = rng.integers(0, 6, (200, 2)).astype(np.uint8)
    assert value("auc", two, labels) == pytest.approx(100 * roc_auc_score(labels, two[:, 1] - two[:, 0].astype(float)))
    assert value("auc", [1.0, 1.0, 1.0], [0, 1, 0]) == 50.0


def test_mae_and_drop() -> None:
    assert value("mae", [[1.0], [2.0]], [1.5, 2.5]) == 0.5
    assert drop(METRICS["mae"], 0.5, 0.75) == 0.25
    assert drop(METRICS["top1"], 99.0, 98.5) == 0.5
    assert drop(METRICS["top1"], 99.0, 99.5) == -0.5


def test_unknown_metric() -> None:
    with pytest.raises(LoadError, match="did you mean 'top1'") as caught:
        find_metric("top-1")
    assert caught.value.code == "DS125"
