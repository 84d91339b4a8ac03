"""Which devices are the target: what each says of itself, as such devices are known to say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsedge.backends.tensorrt.device.trt_target import board_model, differences, within
from dsedge.backends.tensorrt.settings import target_facts
from dsedge.target import load_target


def differs(board: str, **gpu: Any) -> list[str]:
    """From a board of dsedge's own; what is not given is as it should be."""
    target = target_facts(load_target(board)).model_dump()
    version = gpu.pop("tensorrt", "10.3.0.30" if "orin" in board else "8.5.2.2" if "xavier" in board else "10.13.2")
    same = {"compute_capability": target["compute_capability"], "model": None, "memory_mib": target["memory_mib"]}
    return differences(target, {**same, **gpu}, version)


@pytest.mark.parametrize(
    ("board", "gpu"),
    [
        ("t4", {"name": "Tesla T4", "memory_mib": 15102}),
        ("a100", {"name": "NVIDIA A100-SXM4-40GB", "memory_mib": 40326}),
        ("a100", {"name": "A100-PCIE-40GB", "tensorrt": "11.1.0"}),
        (
            "jetson-orin-nano",
            {
                "name": "Orin",
                "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
                "memory_mib": 7620,
            },
        ),
        ("jetson-orin-nx", {"name": "Orin", "model": "NVIDIA Orin NX Developer Kit", "memory_mib": 15523}),
        ("jetson-agx-orin", {"name": "Orin", "model": "NVIDIA Jetson AGX Orin Developer Kit", "memory_mib": 62841}),
        ("jetson-xavier-nx", {"name": "Xavier", "model": "NVIDIA Jetson Xavier NX Developer Kit", "memory_mib": 6854}),
    ],
)
def test_the_target_is_known_by_what_it_says(board: str, gpu: dict[str, Any]) -> None:
    assert differs(board, **gpu) == []


@pytest.mark.parametrize(
    ("board", "gpu", "said"),
    [
        ("a100", {"name": "NVIDIA A30"}, "it calls itself NVIDIA A30, and the target A100"),
        ("a100", {"name": "NVIDIA A100-SXM4-80GB", "memory_mib": 81050}, "it has 81050 MiB of memory, and the target"),
        ("a100", {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "memory_mib": 4864}, "it has 4864 MiB"),
        ("a100", {"name": "A100", "compute_capability": "9.0"}, "its compute capability is 9.0, and the target's 8.0"),
        ("t4", {"name": "NVIDIA T400", "memory_mib": 16384}, "it calls itself NVIDIA T400"),
        ("jetson-orin-nano", {"name": "Orin"}, "it calls itself Orin, and the target Orin Nano"),
        ("jetson-orin-nano", {"name": "Orin", "model": "NVIDIA Jetson AGX Orin"}, "Orin / NVIDIA Jetson AGX Orin, and"),
        ("jetson-orin-nx", {"name": "Orin", "model": "Orin NX", "memory_mib": 7620}, "it has 7620 MiB"),
        (
            "jetson-orin-nano",
            {"name": "Orin", "model": "Orin Nano", "tensorrt": "10.7.0"},
            "TensorRT 10.7.0 ran the engine, and the target has >=10.3,<10.4",
        ),
    ],
)
def test_another_device_is_told_from_it(board: str, gpu: dict[str, Any], said: str) -> None:
    (found,) = differs(board, **gpu)
    assert said in found


def test_a_board_that_does_not_say_what_it_calls_itself_is_never_measured() -> None:
    facts = target_facts(load_target("t4")).model_copy(update={"device_name": None, "memory_mib": None})
    gpu = {"name": "Tesla T4", "compute_capability": "7.5", "model": None, "memory_mib": 1}
    (found,) = differences(facts.model_dump(), gpu, "10.1")
    assert "accelerator.device_name" in found


@pytest.mark.parametrize(
    ("version", "wanted", "holds"),
    [
        ("10.3.0.26", ">=10.3,<10.4", True),
        ("10.4", ">=10.3,<10.4", False),
        ("9.3", ">=10.3", False),
        ("10.3.0", "==10.3", True),
        ("10.3.1", "==10.3", False),
        ("10.3.1", "==10.3.*", True),
        ("10.4.1", "!=10.3.*", True),
        ("10.5.1", "~=10.3", True),
        ("11.0", "~=10.3", False),
        ("10.3", "<=10.3.0,>10.2", True),
    ],
)
def test_versions_and_ranges(version: str, wanted: str, holds: bool) -> None:
    assert within(version, wanted) is holds


def test_the_model_is_what_the_device_tree_says(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert board_model(tmp_path / "model") == "NVIDIA Jetson Orin Nano Developer Kit"
    assert board_model(tmp_path / "none") is None
