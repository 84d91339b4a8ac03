"""Data that tells nothing about ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import chain

import dsedge
from dsedge.data import Batch
from dsedge.data.variety import sameness

ROWS = np.random.default_rng(0).standard_normal((4, 8, 12, 12)).astype(np.float32)
MASK = np.ones((1, 16), np.int64)


def batches(*samples: dict[str, np.ndarray]) -> list[Batch]:
    return [Batch(feeds, 1, None) for feeds in samples]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([{"x": ROWS[0], "mask": MASK}, {"x": ROWS[1], "mask": MASK}], None),
        ([{"x": ROWS[0]}], None),
        ([{"ids": MASK}], None),
        ([{"x": np.zeros((1, 4), np.float32), "mask": MASK}], "constant ('x' is 0 everywhere)"),
        ([{"x": np.zeros((1, 4), np.float32), "y": ROWS[0]}], None),
        ([{"x": ROWS[0]}, {"x": ROWS[0].copy()}], "the first 2 calibration samples are all equal"),
        ([{"x": np.float32([[1.0]])}, {"x": np.float32([[2.0]])}], None),
        ([], None),
    ],
)
def test_sameness(samples: list[dict[str, np.ndarray]], words: str | None) -> None:
    found = sameness(batches(*samples))
    assert found is None if words is None else words in str(found)


def test_it_is_said_in_the_bundle(tmp_path: Path) -> None:
    options = {"target": "raspberry-pi-5", "runtime": "onnxruntime"}
    told = dsedge.compile(chain(), calibration=np.stack([ROWS[0]] * 3), output=tmp_path / "a", **options).manifest
    assert told.notes == ["the first 3 calibration samples are all equal: the ranges say little about real data"]
    assert dsedge.compile(chain(), calibration=ROWS, output=tmp_path / "b", **options).manifest.notes == []
