"""The torch modules: sizes of the papers, shapes, and the export of an untrained one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")

from models.digits_cnn.model import DigitsCNN  # noqa: E402
from models.fraud_lstm.model import FraudLSTM  # noqa: E402
from models.mobilenet_v2.model import MobileNetV2  # noqa: E402
from models.resnet50.model import ResNet50  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("architecture", "parameters", "inputs", "outputs"),
    [
        (ResNet50, 25_557_032, (2, 3, 224, 224), (2, 1000)),
        (MobileNetV2, 3_504_872, (2, 3, 224, 224), (2, 1000)),
        (DigitsCNN, 95_850, (2, 1, 8, 8), (2, 10)),
        (FraudLSTM, 87_169, (2, 32, 24), (2, 1)),
    ],
)
def test_parameters_and_shapes(
    architecture: type, parameters: int, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    module = architecture().eval()
    assert sum(p.numel() for p in module.parameters()) == parameters
    with torch.inference_mode():
        assert module(torch.zeros(inputs)).shape == outputs


def test_resnet50_strides_in_the_3x3_convolution() -> None:
    strided = [m for m in ResNet50().blocks.modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2)]
    assert [m.kernel_size for m in strided] == [(3, 3), (1, 1)] * 3


def test_settled_batch_norm_keeps_activations_in_scale() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    from models.untrained import build, photo_crops

    torch.set_num_threads(1)
    module = build(MobileNetV2)
    spread: list[float] = []
    for block in module.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: spread.append(float(output.std())))
    with torch.inference_mode():
        logits = module(torch.from_numpy(photo_crops(4, 123))).numpy()
    assert len(spread) == 17
    assert min(spread) > 0.3
    assert max(spread) < 3
    assert logits.std(axis=0).mean() > 0.02, "the logits do not depend on the image"


@pytest.mark.slow
def test_export_command(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    path = tmp_path / "mobilenet_v2.onnx"
    subprocess.run([sys.executable, ROOT / "models/mobilenet_v2/export.py", path], check=True, cwd=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mobilenet_v2.onnx"]
    assert str(ROOT).encode() not in path.read_bytes()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": np.zeros((1, 3, 224, 224), np.float32)})
    assert logits.shape == (1, 1000)
