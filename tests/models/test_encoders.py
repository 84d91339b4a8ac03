"""Untrained transformers: sizes of the papers, behaviour like trained ones, export with symbolic lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from models.bert_base.model import BertBase, Encoder  # noqa: E402
from models.export import export_onnx  # noqa: E402
from models.minilm.model import MiniLM  # noqa: E402
from models.untrained_sequences import CLS, PAD, SEP, build_encoder, token_batches  # noqa: E402
from models.vit_tiny.model import ViTTiny  # noqa: E402


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    torch.set_num_threads(1)
    return build_encoder(MiniLM)


def tokens(count: int, seq: int, seed: int) -> list[torch.Tensor]:
    return [torch.from_numpy(column) for column in token_batches(count, seq, seed).values()]


@pytest.mark.parametrize(
    ("architecture", "parameters"), [(BertBase, 109_483_778), (MiniLM, 22_565_376), (ViTTiny, 5_717_416)]
)
def test_parameters(architecture: type[nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        module = architecture()
    assert sum(p.numel() for p in module.parameters()) == parameters


def test_token_batches_look_like_text() -> None:
    columns = token_batches(400, 64, seed=3)
    assert all(column.dtype == np.int64 and column.shape == (400, 64) for column in columns.values())
    ids, mask, segments = columns.values()
    length = mask.sum(1)
    assert (mask == (np.arange(64) < length[:, None])).all()
    assert ((ids == PAD) == (mask == 0)).all()
    assert (ids[:, 0] == CLS).all()
    assert (ids[np.arange(400), length - 1] == SEP).all()
    assert ((ids == SEP).sum(1) == 1 + segments.max(1)).all()
    assert 0.4 < segments.max(1).mean() < 0.6
    assert length.min() == 8
    assert length.max() == 64
    words, counts = np.unique(ids[ids > SEP], return_counts=True)
    assert words.max() < 30_522
    assert 0.03 < counts.max() / counts.sum() < 0.1, "the share of `the` in English is 7%"
    again, other = token_batches(400, 64, seed=3), token_batches(400, 64, seed=4)
    assert (ids == again["input_ids"]).all()
    assert (ids != other["input_ids"]).any()


def test_the_same_channels_are_outliers_after_every_normalization_but_the_last(minilm: MiniLM) -> None:
    norms = [layer for layer in minilm.modules() if isinstance(layer, nn.LayerNorm)]
    mask = token_batches(4, 64, 9)["attention_mask"].astype(bool)
    channels: list[frozenset[int]] = []
    ratios: list[float] = []

    def record(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        peak = output[torch.from_numpy(mask)].abs().amax(0)
        channels.append(frozenset(torch.nonzero(peak > 2.5 * peak.median()).flatten().tolist()))
        ratios.append(float(peak.max() / peak.median()))

    hooks = [norm.register_forward_hook(record) for norm in norms]
    with torch.inference_mode():
        minilm(*tokens(4, 64, 9))
    for hook in hooks:
        hook.remove()
    assert len(ratios) == 13
    assert min(ratios[:-1]) > 4
    assert max(ratios[:-1]) < 12
    assert 3 <= len(frozenset.intersection(*channels[:-1])) <= 6
    assert ratios[-1] < 4


def test_embeddings_are_of_unit_length_and_tell_sentences_apart(minilm: MiniLM) -> None:
    with torch.inference_mode():
        hidden, embedding = minilm(*tokens(16, 48, 11))
    assert hidden.shape == (16, 48, 384)
    assert embedding.shape == (16, 384)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(16))
    similarity = (embedding @ embedding.T)[~torch.eye(16, dtype=torch.bool)]
    assert similarity.mean() < 0.6


def test_padding_changes_nothing(minilm: MiniLM) -> None:
    columns = tokens(3, 32, 12)
    padded = [nn.functional.pad(column, (0, 16)) for column in columns]
    with torch.inference_mode():
        torch.testing.assert_close(minilm(*padded)[1], minilm(*columns)[1], atol=1e-5, rtol=0)


def test_seeds_repeat() -> None:
    def small() -> nn.Module:
        return Encoder(hidden=64, heads=2, depth=1)

    first, second = build_encoder(small).state_dict(), build_encoder(small).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_encoder_export_has_free_lengths(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    module = build_encoder(lambda: Encoder(hidden=64, heads=2, depth=2))
    columns = token_batches(2, 16, 0)
    export_onnx(
        module,
        [torch.from_numpy(column) for column in columns.values()],
        path,
        input_names=list(columns),
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in columns},
    )
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.shape for i in session.get_inputs()] == [["batch", "sequence"]] * 3
    for count, seq in ((1, 9), (5, 40)):
        columns = token_batches(count, seq, 1)
        with torch.inference_mode():
            expected = module(*map(torch.from_numpy, columns.values())).numpy()
        (actual,) = session.run(None, columns)
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_vit_depends_on_the_image() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    from models.untrained import photo_crops
    from models.vit_tiny.export import build

    torch.set_num_threads(1)
    with torch.inference_mode():
        logits = build()(torch.from_numpy(photo_crops(3, 123)))
    assert logits.shape == (3, 1000)
    assert logits.std(0).mean() > 0.1
