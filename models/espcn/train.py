"""Trains ESPCN and its residual variant and writes espcn.onnx and espcn_residual.onnx beside this file.

Run `python models/espcn/train.py`. One thread and fixed seeds: the same machine writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime as ort
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.espcn.data import pairs, psnr
from models.espcn.model import ESPCN, SCALE, ResidualESPCN
from models.export import export_onnx

HERE = Path(__file__).resolve().parent
SEED = 2016
STEPS = 2000
BATCH = 16
SIDE = 24
EVALUATION = 32


def train(model: ESPCN) -> None:
    """Train with Adam and a one-cycle learning rate on crops that no step sees twice, turned at random."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=STEPS)
    for step in range(STEPS):
        images = [torch.from_numpy(array) for array in pairs(BATCH, SEED * STEPS + step, side=SIDE)]
        turns = int(torch.randint(4, ()))
        small, large = (torch.rot90(image, turns, (2, 3)) for image in images)
        error = F.l1_loss(model(small), large)
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def main() -> None:
    """Train, export, and print the exported models' PSNR on the held-out part of the photographs."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    small, large = pairs(EVALUATION, SEED, held_out=True)
    bicubic = F.interpolate(torch.from_numpy(small), scale_factor=SCALE, mode="bicubic").numpy()
    print(f"bicubic PSNR {psnr(bicubic, large):.2f} dB")
    for name, architecture in (("espcn", ESPCN), ("espcn_residual", ResidualESPCN)):
        torch.manual_seed(SEED)
        model = architecture()
        train(model)
        path = HERE / f"{name}.onnx"
        axes = {"image": {0: "batch"}}
        export_onnx(
            model, [torch.from_numpy(small)], path, input_names=["image"], output_names=["enlarged"], dynamic_axes=axes
        )
        (enlarged,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": small})
        print(f"{name} PSNR {psnr(enlarged, large):.2f} dB ({EVALUATION} held-out crops)")


if __name__ == "__main__":
    main()
