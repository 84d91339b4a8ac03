"""Random damage to a file: it is refused with a code, or it does no harm."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from attacks.hostile import BOARD, MODEL, Ended, refused

SEEDS = 15
ROUNDS = 10


def structure(content: bytes) -> list[int]:
    """The places in the file that are not the inside of a weight, where a change does most."""
    inside = np.zeros(len(content), bool)
    for tensor in onnx.ModelProto.FromString(content).graph.initializer:
        start = content.find(tensor.raw_data)
        inside[start : start + len(tensor.raw_data)] = len(tensor.raw_data) > 64
    return np.flatnonzero(~inside).tolist()


def damaged(content: bytes, places: list[int], rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.choice(places), rng.random()
        if kind < 0.6:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind < 0.8:
            data[at % len(data)] = rng.randrange(256)
        elif kind < 0.9:
            del data[at : at + rng.randrange(1, 8)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(data)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_models(cli: Callable[..., Ended], tmp_path: Path, seed: int) -> None:
    content, rng = MODEL.read_bytes(), random.Random(seed)
    places = structure(content)
    for number in range(ROUNDS):
        model = tmp_path / f"{number}.onnx"
        model.write_bytes(damaged(content, places, rng))
        ended = cli("check", model, "-t", BOARD)
        if ended.code:
            refused(ended, ended.err[6:11])
            assert ended.err[6:11] in ("DS102", "DS103", "DS104", "DS105", "DS106", "DS108", "DS201"), ended
