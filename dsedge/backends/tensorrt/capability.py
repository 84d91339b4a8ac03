"""What each NVIDIA GPU computes in hardware, by its compute capability.

From the TensorRT support matrix, "Hardware and Precision", and the tuning guides of the architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsedge.errors import LoadError
from dsedge.target import Target


@dataclass(frozen=True)
class Capability:
    """A generation of GPUs.

    Attributes:
        number: the compute capability, "8.0".
        name: of the architecture.
        ampere: whether its tensor cores compute bfloat16 and TF32, skip the zeros of 2:4 sparse weights, and whether
            TensorRT has kernels for it that read INT4 weights.
        fp8: whether its tensor cores compute FP8.
    """

    number: str
    name: str
    ampere: bool
    fp8: bool = False


CAPABILITIES: Mapping[str, Capability] = {
    chip.number: chip
    for chip in (
        Capability("7.2", "Volta (Xavier)", ampere=False),
        Capability("7.5", "Turing", ampere=False),
        Capability("8.0", "Ampere", ampere=True),
        Capability("8.6", "Ampere", ampere=True),
        Capability("8.7", "Ampere (Orin)", ampere=True),
        Capability("8.9", "Ada", ampere=True, fp8=True),
        Capability("9.0", "Hopper", ampere=True, fp8=True),
        Capability("10.0", "Blackwell", ampere=True, fp8=True),
        Capability("12.0", "Blackwell", ampere=True, fp8=True),
        Capability("12.1", "Blackwell", ampere=True, fp8=True),
    )
}
"""All of them have INT8 and float16."""


def capability(target: Target) -> Capability:
    """What the GPU of a board computes.

    Raises:
        LoadError: DS144 when the board names no compute capability, or one that is not known.
    """
    number = (target.accelerator.compute_capability if target.accelerator else None) or ""
    if number not in CAPABILITIES:
        what = f"TensorRT needs an NVIDIA GPU, and {target.name} has " + (number or "none")
        hint = f"accelerator.compute_capability of the target is one of {', '.join(CAPABILITIES)}"
        raise LoadError("DS144", what, hint=hint)
    return CAPABILITIES[number]


def missing(chip: Capability) -> dict[str, str]:
    """Precision that `--precision` names -> why a GPU of this generation does not have it."""
    lacks = {"int8_dynamic": "TensorRT quantizes activations with scales that the graph says, never as they come"}
    if not chip.ampere:
        lacks["bf16"] = f"tensor cores compute bfloat16 from Ampere (8.0) on, and this is {chip.name}"
        lacks["int4"] = f"kernels that read INT4 weights begin with Ampere (8.0), and this is {chip.name}"
    since = f"tensor cores compute FP8 from Ada (8.9) on, and this is {chip.name}"
    lacks["fp8"] = "graphs in FP8 are not written for it" if chip.fp8 else since
    return lacks
