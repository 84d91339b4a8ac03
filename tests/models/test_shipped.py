"""The shipped ONNX files and their data: what the cards say is what the files do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED = ("digits_cnn", "fraud_lstm")


def load_data(name: str, part: str) -> dict[str, NDArray[np.generic]]:
    with np.load(MODELS / name / f"{part}.npz", allow_pickle=False) as archive:
        return dict(archive)


def run(name: str, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    path = MODELS / name / f"{name}.onnx"
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(output, np.float32)


def on_card(name: str, pattern: str) -> float:
    found = re.search(pattern, (MODELS / name / "card.md").read_text())
    assert found, f"{pattern} is not on the card of {name}"
    return float(found[1])


def roc_auc(labels: NDArray[np.generic], scores: NDArray[np.float32]) -> float:
    """Share of (positive, negative) pairs that the scores put in order."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    order = np.sign(positive[:, None] - negative[None, :])
    return float((order.mean() + 1) / 2)


def test_digits_cnn_has_the_accuracy_on_its_card() -> None:
    data = load_data("digits_cnn", "evaluation")
    accuracy = 100 * float((run("digits_cnn", data["image"]).argmax(1) == data["labels"]).mean())
    stated = on_card("digits_cnn", r"top-1 accuracy ([\d.]+)%")
    assert stated >= 98.5
    assert abs(accuracy - stated) < 0.25  # another processor may round one image away


def test_fraud_lstm_has_the_auc_on_its_card() -> None:
    data = load_data("fraud_lstm", "evaluation")
    auc = roc_auc(data["labels"], run("fraud_lstm", data["transactions"])[:, 0])
    stated = on_card("fraud_lstm", r"ROC AUC ([\d.]+)")
    assert 0.95 <= stated < 0.999
    assert abs(auc - stated) < 1e-3


@pytest.mark.parametrize(
    ("name", "samples", "calibration", "shape"),
    [("digits_cnn", 500, 256, (1, 8, 8)), ("fraud_lstm", 2000, 128, (32, 24))],
)
def test_data_fits_the_model(name: str, samples: int, calibration: int, shape: tuple[int, ...]) -> None:
    graph = onnx.load(MODELS / name / f"{name}.onnx").graph
    field = graph.input[0].name
    seen, held_out = load_data(name, "calibration"), load_data(name, "evaluation")
    assert seen.keys() == {field}
    assert held_out.keys() == {field, "labels"}
    for images, count in ((seen[field], calibration), (held_out[field], samples)):
        assert images.shape == (count, *shape)
        assert images.dtype == np.float32
    assert held_out["labels"].shape == (samples,)
    assert held_out["labels"].dtype == np.int64
    both = np.concatenate([seen[field], held_out[field]])
    assert len(np.unique(both, axis=0)) == len(both), "a calibration sample is in the evaluation data"


@pytest.mark.parametrize("name", SHIPPED)
def test_file_is_opset_20_with_a_free_batch_and_no_traces(name: str) -> None:
    path = MODELS / name / f"{name}.onnx"
    model = onnx.load(path, load_external_data=False)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        assert not part.metadata_props
        assert not part.doc_string
    content = path.read_bytes()
    assert not [trace for trace in (b".py", b"/home", b"site-packages", bytes(MODELS.parent)) if trace in content]
    assert len(content) < 400_000


@pytest.mark.parametrize("name", SHIPPED)
def test_samples_of_a_batch_do_not_mix(name: str) -> None:
    inputs = next(iter(load_data(name, "calibration").values()))[:5]
    np.testing.assert_allclose(run(name, inputs)[3:4], run(name, inputs[3:4]), atol=1e-5)


def test_lstm_weights_come_from_constants_only() -> None:
    graph = onnx.load(MODELS / "fraud_lstm" / "fraud_lstm.onnx").graph
    producer = {output: node for node in graph.node for output in node.output}
    (lstm,) = (node for node in graph.node if node.op_type == "LSTM")

    def sources(value: str) -> set[str]:
        node = producer.get(value)
        return {value} if node is None else set().union(*(sources(i) for i in node.input if i))

    constants = {tensor.name for tensor in graph.initializer}
    assert all(sources(weight) <= constants for weight in lstm.input[1:4])
