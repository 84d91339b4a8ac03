"""What the flow refuses, with which code, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import samples
from graphs import Net, chain

import dsedge
from dsedge.compiler import check
from dsedge.data import Feeds
from dsedge.errors import DsedgeError
from dsedge.model import Model
from dsedge.target import load_target

BOARD = "raspberry-pi-5"


def arrays(model: Model, count: int = 8) -> list[Feeds]:
    return [batch.feeds for batch in samples(model, count)]


def refused(code: str, *args: Any, **kwargs: Any) -> DsedgeError:
    with pytest.raises(DsedgeError) as caught:
        dsedge.compile(*args, **kwargs)
    assert caught.value.code == code, caught.value
    return caught.value


@pytest.mark.parametrize(
    ("code", "kwargs"),
    [
        ("DS126", {"calibration": None}),
        ("DS141", {"target": "raspberry-pie-5"}),
        ("DS143", {"runtime": "onnxruntme"}),
        ("DS144", {"target": "pos-armv7", "runtime": "c"}),
        ("DS125", {"evaluate": ({"x": np.zeros((2, 8, 12, 12), np.float32), "labels": np.zeros(2, int)}, "top7")}),
        ("DS145", {"max_drop": 0.5}),
        ("DS145", {"max_drop": -1.0, "evaluate": lambda predict: 1.0}),
        ("DS145", {"max_drop": float("nan"), "evaluate": lambda predict: 1.0}),
        ("DS127", {"recipe": "imagenett"}),
        ("DS123", {"calibration": []}),
        ("DS122", {"calibration": [np.zeros((3, 3), np.float32)]}),
        ("DS501", {"evaluate": lambda predict: float("nan")}),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(tmp_path: Path, code: str, kwargs: dict[str, Any]) -> None:
    options: dict[str, Any] = {"target": BOARD, "calibration": "random", "output": tmp_path / "out"}
    refused(code, chain(), **(options | kwargs))
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_unsupported_operators_are_named_all_at_once(tmp_path: Path) -> None:
    net = Net(x=("N", 8))
    model = net.model(net.op("Fancy", net.op("Bogus", "x"), domain="com.example"))
    error = refused("DS201", model, target=BOARD, calibration="random", output=tmp_path / "out")
    assert all(word in str(error) for word in ("2 nodes", "'Bogus_0'", "'Fancy_1'", "com.example"))
    findings = check(model, load_target(BOARD))
    assert [finding.node for finding in findings["onnxruntime"]] == ["Bogus_0", "Fancy_1"]


def test_an_activation_that_overflows_is_named(tmp_path: Path) -> None:
    net = Net(x=(1, 8, 12, 12))
    y = net.op("Reciprocal", "x")
    net.channels[y] = 8
    model = net.model(net.conv(y, 8))
    data = arrays(model, 4)
    data[2]["x"][0, 0, 0, 0] = 0
    error = refused("DS128", model, target=BOARD, calibration=data, output=tmp_path / "out")
    assert "'reciprocal_0'" in str(error)
    assert "sample 2" in str(error)


@pytest.mark.parametrize("step", ["normalize", "calibrate", "measure"])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, step: str) -> None:
    seen = []

    def progress(name: str, done: int, total: int | None) -> None:
        seen.append(name)
        if name == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dsedge.compile(chain(), target=BOARD, calibration="random", output=tmp_path / "out", progress=progress)
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []
    assert seen[0] == "load"


def test_an_error_in_the_user_s_data_is_the_user_s(tmp_path: Path) -> None:
    def broken() -> Iterator[Feeds]:
        yield from arrays(chain(), 40)
        raise FileNotFoundError(2, "No such file or directory", "sample41.png")

    with pytest.raises((DsedgeError, FileNotFoundError)) as caught:
        dsedge.compile(chain(), target=BOARD, calibration=broken(), output=tmp_path / "out")
    assert "sample41.png" in str(caught.value)
    assert "output folder" not in str(caught.value)
