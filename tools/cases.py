"""The models of `compare_peers.py`: where their files and samples come from, and which quantizers apply to them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import fidelity
import numpy as np
from common import ROOT, Feeds, export_untrained, sequence_samples
from fidelity import Compare, Samples
from quantizers import read_samples

Variants = Mapping[str, tuple[str, dict[str, Any]]]
"""The title of a row -> the tool in `quantizers.py` and its options."""

Sampler = Callable[[int, int, bool], Feeds]
"""Inputs by name, from a count, a seed and whether they are for the comparison."""

OURS: Variants = {"dsedge": ("dsedge", {})}

# Entropy calibration is left out: with the bins that `quantize_static` gives it, its ranges are those of min-max.
_MIN_MAX: Variants = {
    "onnxruntime, defaults": ("onnxruntime static", {"method": "MinMax", "activations": "QInt8", "per_channel": False}),
    "onnxruntime, min-max": ("onnxruntime static", {"method": "MinMax"}),
}
CONVOLUTIONS: Variants = {
    **OURS,
    **_MIN_MAX,
    "onnxruntime, mean min-max": ("onnxruntime static", {"method": "MinMax", "CalibMovingAverage": True}),
    "onnxruntime, percentile 99.99": ("onnxruntime static", {"method": "Percentile", "CalibPercentile": 99.99}),
    "onnxruntime, percentile 99.999": ("onnxruntime static", {"method": "Percentile"}),
    "nncf, mixed": ("nncf", {}),
    "nncf, performance": ("nncf", {"preset": "performance"}),
    "nncf, mixed, per tensor": ("nncf", {"per_tensor": True}),
    "nncf, mixed, per tensor, histogram": ("nncf", {"per_tensor": True, "ranges": "HISTOGRAM"}),
}


def _dynamic(**operators: list[str] | None) -> Variants:
    return {
        f"onnxruntime dynamic, {weights}, {'per channel' if per_channel else 'per tensor'}, {title}": (
            "onnxruntime dynamic",
            {"weights": weights, "per_channel": per_channel, "op_types_to_quantize": listed},
        )
        for per_channel in (False, True)
        for weights in ("QInt8", "QUInt8")
        for title, listed in operators.items()
    }


LSTM: Variants = {**OURS, **_dynamic(LSTM=["LSTM"], all=None), "nncf, mixed": ("nncf", {})}
GRU: Variants = {**OURS, **_dynamic(all=None), **_MIN_MAX, "nncf, mixed": ("nncf", {})}
ATTENTION: Variants = {
    **OURS,
    **_MIN_MAX,
    "onnxruntime, min-max, linear layers": (
        "onnxruntime static",
        {"method": "MinMax", "operators": ["MatMul", "Gemm"], "MatMulConstBOnly": True},
    ),
    **_dynamic(all=None),
    "nncf, transformer": ("nncf", {"model_type": "transformer"}),
    "nncf, transformer, performance": ("nncf", {"model_type": "transformer", "preset": "performance"}),
}
ENCODER: Variants = {
    **ATTENTION,
    "onnxruntime transformers optimizer, dynamic, QInt8": (
        "onnxruntime dynamic",
        {"weights": "QInt8", "per_channel": False, "op_types_to_quantize": None, "fuse": "bert"},
    ),
}


# LiteRT: ai-edge-quantizer reads the float model that dsedge wrote.
LITERT: Variants = {
    "dsedge": ("dsedge", {"runtime": "litert"}),
    "ai-edge-quantizer, static": ("ai-edge-quantizer", {"recipe": "static_wi8_ai8"}),
    "ai-edge-quantizer, static, min-max ranges": ("ai-edge-quantizer", {"recipe": "static_wi8_ai8", "ranges": True}),
    "ai-edge-quantizer, dynamic": ("ai-edge-quantizer", {"recipe": "dynamic_wi8_afp32"}),
}


def variants_on(runtime: str, variants: Variants) -> Variants:
    """The rows of a table on a runtime, made of those on ONNX Runtime: for OpenVINO, dsedge and NNCF."""
    if runtime == "litert":
        return LITERT
    if runtime == "openvino":
        both = ("dsedge", "nncf")
        return {t: (tool, {**o, "runtime": runtime}) for t, (tool, o) in variants.items() if tool in both}
    return variants


# A row of BERT-base takes minutes: those that are the fastest or the most exact on the small encoder.
LARGE: Variants = {
    title: ENCODER[title]
    for title in (
        *OURS,
        "onnxruntime, min-max, linear layers",
        "onnxruntime dynamic, QInt8, per tensor, all",
        "onnxruntime dynamic, QInt8, per channel, all",
        "nncf, transformer",
    )
}


@dataclass(frozen=True)
class Goal:
    """What a model's artifact must reach, whatever the peers do; None where the peers alone are the measure.

    Attributes:
        ratio: least float time / time.
        sqnr_db: least SQNR of the worst output.
        agreement: least share, by name.
        above_peers: the output whose SQNR must exceed that of every peer that counts.
    """

    ratio: float | None = None
    sqnr_db: float | None = None
    agreement: tuple[str, float] | None = None
    above_peers: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a case is made.

    Attributes:
        variants: the rows of its table.
        samples: what draws the inputs; None: the .npz files beside the model are taken.
        export: the options of its `export.py`; None: the ONNX file is shipped.
        compare: what fidelity is.
        most: samples at most, fewer for large models.
    """

    variants: Variants
    samples: Sampler | None = None
    export: tuple[str, ...] | None = ()
    compare: Compare = fidelity.all_outputs
    goal: Goal = Goal()
    most: int = 32


@dataclass(frozen=True)
class Case:
    """A model to compare on.

    Attributes:
        name: of the model, a key of `RECIPES`.
        model: the ONNX file.
        calibration: an .npz.
        held_out: samples for fidelity and timing.
    """

    name: str
    model: Path
    calibration: Path
    held_out: Samples


def _images(module: str = "untrained", function: str = "photo_crops", *, name: str = "image") -> Sampler:
    return lambda count, seed, held_out: {name: getattr(import_module(f"models.{module}"), function)(count, seed)}


def _enlarged(count: int, seed: int, held_out: bool) -> Feeds:
    from models.espcn.data import pairs

    return {"image": pairs(count, seed, held_out=held_out)[0]}


def _sequences(name: str) -> Sampler:
    return lambda count, seed, held_out: sequence_samples(name, count, seed)


_TOKENS = ("--static", "1", "128")
RECIPES = {
    "resnet50": Recipe(CONVOLUTIONS, samples=_images()),
    "mobilenet_v2": Recipe(CONVOLUTIONS, samples=_images()),
    "mobilenet_v3": Recipe(CONVOLUTIONS, samples=_images()),
    "attention_resnet": Recipe(CONVOLUTIONS, samples=_images()),
    "unet": Recipe(CONVOLUTIONS, samples=_images("unet.export", "samples")),
    "conv3d": Recipe(CONVOLUTIONS, samples=_images("conv3d.export", "samples", name="clip")),
    "espcn": Recipe(CONVOLUTIONS, samples=_enlarged, export=None),
    "yolov5n": Recipe(
        CONVOLUTIONS,
        samples=_images("yolov5n.export", "samples"),
        compare=fidelity.detections,
        goal=Goal(ratio=1.71, agreement=("class", 0.99), above_peers="boxes"),
    ),
    "digits_cnn": Recipe(CONVOLUTIONS, export=None),
    "ds_cnn": Recipe(CONVOLUTIONS, export=None),
    "fraud_lstm": Recipe(LSTM, export=None),
    "gru": Recipe(GRU, _sequences("gru")),
    "moe": Recipe(ATTENTION, _sequences("moe")),
    "vit_tiny": Recipe(ATTENTION, _images(), ("--static", "1")),
    "minilm": Recipe(ENCODER, _sequences("minilm"), _TOKENS, fidelity.tokens, Goal(ratio=2.6, sqnr_db=24.0)),
    "bert_base": Recipe(LARGE, _sequences("bert_base"), _TOKENS, fidelity.tokens, Goal(ratio=2.9), most=16),
}


def prepare(name: str, folder: Path, exports: Path, count: int = 32) -> Case:
    """The ONNX file and the data of a model.

    Args:
        name: one of `RECIPES`.
        folder: for the samples.
        exports: for exported models; one that is there already is taken.
        count: samples for calibration, and others held out; shipped ones are all taken.
    """
    recipe, home = RECIPES[name], ROOT / "models" / name
    model = home / f"{name}.onnx" if recipe.export is None else exports / f"{name}.onnx"
    if not model.exists():
        export_untrained(name, exports, *(recipe.export or ()))
    if recipe.samples is None:
        return Case(name, model, home / "calibration.npz", read_samples(home / "evaluation.npz"))
    sys.path.insert(0, str(ROOT))
    count = min(count, recipe.most)
    for file, seed, held_out in (("calibration.npz", 1, False), ("held_out.npz", 2, True)):
        arrays: dict[str, Any] = dict(recipe.samples(count, seed, held_out))
        np.savez(folder / file, **arrays)
    return Case(name, model, folder / "calibration.npz", read_samples(folder / "held_out.npz"))
