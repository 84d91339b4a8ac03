"""Keyword spotters, their sounds, and the mixture of experts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from models.ds_cnn.generator import CLASSES, cepstrum, generate  # noqa: E402
from models.ds_cnn.model import DSCNN  # noqa: E402
from models.export import export_onnx  # noqa: E402
from models.gru.export import load  # noqa: E402
from models.gru.model import KeywordGRU, StreamingGRU  # noqa: E402
from models.moe.export import build, samples  # noqa: E402
from models.moe.model import ConditionalExperts, MixtureOfExperts  # noqa: E402

MODELS = Path(__file__).resolve().parents[2] / "models"


def stated_accuracy(name: str) -> float:
    found = re.search(r"top-1 accuracy ([\d.]+)%", (MODELS / name / "card.md").read_text())
    assert found, name
    return float(found[1])


@pytest.mark.parametrize(
    ("architecture", "parameters", "inputs", "outputs"),
    [
        (DSCNN, 23_180, (2, 1, 49, 10), (2, 12)),
        (KeywordGRU, 165_900, (2, 49, 40), (2, 12)),
        (MixtureOfExperts, 132_740, (2, 16, 64), (2, 16, 64)),
    ],
)
def test_parameters_and_shapes(
    architecture: type, parameters: int, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    module = architecture().eval()
    assert sum(p.numel() for p in module.parameters()) == parameters
    with torch.inference_mode():
        assert module(torch.zeros(inputs)).shape == outputs


def test_sounds_repeat_by_seed_and_cover_the_classes() -> None:
    first, again, other = generate(60, 5), generate(60, 5), generate(60, 6)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[0].tobytes() != other[0].tobytes()
    assert first[0].shape == (60, 49, 40)
    assert first[0].dtype == np.float32
    assert set(first[1]) == set(range(len(CLASSES)))
    assert cepstrum(first[0]).shape == (60, 1, 49, 10)


def test_ds_cnn_has_the_accuracy_on_its_card() -> None:
    with np.load(MODELS / "ds_cnn" / "evaluation.npz", allow_pickle=False) as archive:
        sounds, labels = archive["cepstrum"], archive["labels"]
    session = ort.InferenceSession(MODELS / "ds_cnn" / "ds_cnn.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"cepstrum": sounds})
    stated = stated_accuracy("ds_cnn")
    assert 97 < stated < 100
    assert abs(100 * (logits.argmax(1) == labels).mean() - stated) < 0.25  # another processor may round one away


def test_gru_has_the_accuracy_on_its_card() -> None:
    torch.set_num_threads(1)
    sounds, labels = generate(300, 2)
    with torch.inference_mode():
        right = load()(torch.from_numpy(sounds)).argmax(1).numpy() == labels
    assert abs(100 * right.mean() - stated_accuracy("gru")) < 2  # 300 of the 1000 sounds


def test_streaming_gru_is_the_whole_one_in_parts(tmp_path: Path) -> None:
    whole, path = load(), tmp_path / "streaming.onnx"
    export_onnx(
        StreamingGRU(whole),
        [torch.zeros(1, 7, 40), torch.zeros(2, 1, 128)],
        path,
        input_names=["log_mel", "state"],
        output_names=["logits", "state_out"],
    )
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    sound = generate(1, 9)[0]
    state: NDArray[np.float32] = np.zeros((2, 1, 128), np.float32)
    for start in range(0, 49, 7):
        logits, state = session.run(None, {"log_mel": sound[:, start : start + 7], "state": state})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, whole(torch.from_numpy(sound)).numpy(), atol=1e-4)


def test_gru_export_has_a_free_batch(tmp_path: Path) -> None:
    whole, path = load(), tmp_path / "gru.onnx"
    axes = {"log_mel": {0: "batch"}}
    sounds = torch.from_numpy(generate(4, 1)[0][:, :6])  # the exporter's time grows with the frames
    export_onnx(whole, [sounds], path, input_names=["log_mel"], output_names=["logits"], dynamic_axes=axes)
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node].count("GRU") == 2
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for part in (sounds[:1], sounds[:3]):
        with torch.inference_mode():
            expected = whole(part).numpy()
        np.testing.assert_allclose(session.run(None, {"log_mel": part.numpy()})[0], expected, atol=1e-4)


def test_experts_with_and_without_control_flow_agree(tmp_path: Path) -> None:
    tokens = torch.from_numpy(samples(1, 3))
    outputs: list[NDArray[np.float32]] = []
    for architecture, branches in ((MixtureOfExperts, 0), (ConditionalExperts, 4)):
        path = tmp_path / f"{branches}.onnx"
        export_onnx(build(architecture), [tokens], path, input_names=["tokens"], output_names=["output"])
        assert [node.op_type for node in onnx.load(path).graph.node].count("If") == branches
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        outputs.append(np.concatenate([session.run(None, {"tokens": s[None]})[0] for s in samples(20, 4)]))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


def test_every_expert_is_used_and_some_samples_leave_one_out() -> None:
    module, tokens = build(MixtureOfExperts), torch.from_numpy(samples(100, 5))
    with torch.inference_mode():
        chosen = module.gate(module.norm(tokens)).topk(2, dim=-1).indices.flatten(1)
        assert (module(tokens) - tokens).std() > 0.1
    used = torch.stack([(chosen == expert).any(1) for expert in range(4)])
    assert used.any(1).all()
    assert (~used).any(0).sum() > 10
