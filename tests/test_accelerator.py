"""What is said of a model for an accelerator, whose engine the device builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphs import Net, chain

import dsedge
from dsedge.choose import missing_runtimes
from dsedge.errors import LoadError
from dsedge.target import load_target


def test_a_runtime_of_the_device_is_not_missing_here() -> None:
    assert "tensorrt" not in missing_runtimes(load_target("jetson-orin-nano"))


def test_the_notes_of_an_accelerator(tmp_path: Path) -> None:
    bundle = dsedge.compile(chain(), target="jetson", calibration="random", output=tmp_path / "b", precision="fp16")
    notes = "\n".join(bundle.manifest.notes)
    assert "SQNR come from this machine's kernels, not from the board's: the target runs on its accelerator" in notes
    assert "fidelity and golden samples are random noise" in notes and "no samples were given" not in notes
    assert "not as engines" in next(gate.note for gate in bundle.manifest.gates if gate.name == "size")


@pytest.mark.parametrize("name", ["it's", "a\nb"])
def test_a_name_that_no_command_line_holds_is_refused_before_calibration(tmp_path: Path, name: str) -> None:
    net = Net(**{name: ("N", 8)})
    seen: list[str] = []
    with pytest.raises(LoadError) as caught:
        dsedge.compile(
            net.model(net.op("Relu", name)),
            target="a100",
            calibration="random",
            shapes={name: "1:2:4,8"},
            output=tmp_path / "b",
            progress=lambda step, done, total: seen.append(step),
        )
    assert caught.value.code == "DS106" and repr(name) in caught.value.what and "rename" in str(caught.value.hint)
    assert seen[-1] == "check"
