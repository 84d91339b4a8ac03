"""The vision architectures: sizes of the papers, shapes, and what makes untrained weights behave like trained ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")

import models.conv3d.export as conv3d  # noqa: E402
import models.unet.export as unet  # noqa: E402
from models.attention_resnet.model import AttentionResNet  # noqa: E402
from models.conv3d.model import Conv3dNet  # noqa: E402
from models.espcn.model import ESPCN, ResidualESPCN  # noqa: E402
from models.mobilenet_v3.model import mobilenet_v3_large, mobilenet_v3_small  # noqa: E402
from models.unet.model import UNet  # noqa: E402
from models.untrained import Samples, build, photo_crops  # noqa: E402
from models.yolov5n.model import YOLOv5n  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
torch.set_num_threads(1)


def few(samples: Samples) -> Samples:
    """Enough to settle on for a test, and a fraction of the time."""
    return lambda count, seed: samples(min(count, 4), seed)


@pytest.mark.parametrize(
    ("architecture", "parameters", "inputs", "outputs"),
    [
        (YOLOv5n, 1_872_157, (2, 3, 320, 320), (2, 6300, 85)),
        (lambda: YOLOv5n(640), 1_872_157, (1, 3, 640, 640), (1, 25200, 85)),
        (mobilenet_v3_large, 5_483_032, (2, 3, 224, 224), (2, 1000)),
        (mobilenet_v3_small, 2_542_856, (2, 3, 224, 224), (2, 1000)),
        (AttentionResNet, 11_689_512 + 87_824, (1, 3, 224, 224), (1, 1000)),  # ResNet-18 and the gates
        (UNet, 1_942_917, (1, 3, 256, 256), (1, 21, 256, 256)),
        (ESPCN, 22_729, (2, 1, 64, 48), (2, 1, 192, 144)),
        (ResidualESPCN, 22_729, (2, 1, 64, 48), (2, 1, 192, 144)),
        (Conv3dNet, 955_584, (1, 3, 16, 112, 112), (1, 400)),
    ],
)
def test_parameters_and_shapes(
    architecture: Callable[[], torch.nn.Module], parameters: int, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    module = architecture().eval()
    assert sum(p.numel() for p in module.parameters()) == parameters
    with torch.inference_mode():
        assert module(torch.zeros(inputs)).shape == outputs


@pytest.mark.parametrize(
    ("architecture", "samples", "blocks"),
    [
        (mobilenet_v3_small, photo_crops, lambda m: m.blocks),
        (UNet, unet.samples, lambda m: [*m.encoder, *m.decoder]),
        (Conv3dNet, conv3d.samples, lambda m: m.blocks),
    ],
)
def test_activations_keep_their_scale_and_depend_on_the_image(
    architecture: Callable[[], torch.nn.Module], samples: Samples, blocks: Callable[..., list[torch.nn.Module]]
) -> None:
    module = build(architecture, few(samples))
    spread: list[float] = []
    for block in blocks(module):
        block.register_forward_hook(lambda _module, _inputs, output: spread.append(float(output.std())))
    with torch.inference_mode():
        logits = module(torch.from_numpy(samples(3, 123)))
    assert min(spread) > 0.3
    assert max(spread) < 3
    assert logits.std(dim=0).mean() > 0.02


def test_gates_open_and_close() -> None:
    module = build(mobilenet_v3_small, few(photo_crops))
    gates: list[torch.Tensor] = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Hardsigmoid):
            layer.register_forward_hook(lambda _module, _inputs, output: gates.append(output))
    with torch.inference_mode():
        module(torch.from_numpy(photo_crops(2, 123)))
    assert len(gates) == 9
    assert all(gate.std() > 0.2 and 0.2 < gate.mean() < 0.8 for gate in gates)


def test_a_build_repeats() -> None:
    first, second = (build(mobilenet_v3_small, few(photo_crops)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_clips_move() -> None:
    clips = conv3d.samples(3, 4)
    assert clips.shape == (3, 3, 16, 112, 112)
    assert all((clip[:, 0] != clip[:, 15]).mean() > 0.5 for clip in clips)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3", "unet", "attention_resnet", "conv3d"])
def test_export_command(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    subprocess.run([sys.executable, ROOT / f"models/{name}/export.py", path], check=True, cwd=tmp_path)
    assert str(ROOT).encode() not in path.read_bytes()
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in session.get_outputs()] == ["logits"]
