"""Variety: samples that are all the same tell no ranges, and are mostly a mistake in whatever wrote them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsedge.data.batches import Batch


def sameness(samples: Sequence[Batch]) -> str | None:
    """What is suspicious about samples, in words; None where they differ, in themselves or from each other.

    Integers do not count as constant: a mask is 1 everywhere, and rightly so.

    Args:
        samples: the first ones, in the model's inputs.
    """
    feeds = [sample.feeds for sample in samples]
    names = [name for name in feeds[0] if feeds[0][name].dtype.kind == "f"] if feeds else []
    numbers = {name: np.concatenate([feed[name].ravel() for feed in feeds]) for name in names}
    if any(array.size > 1 for array in numbers.values()) and all(np.ptp(a) == 0 for a in numbers.values() if a.size):
        listed = ", ".join(f"{name!r} is {array[0]:g}" for name, array in numbers.items() if array.size)
        return f"the first {len(feeds)} calibration samples are constant ({listed} everywhere)"
    if len(feeds) > 1 and all(np.array_equal(feed[name], feeds[0][name]) for feed in feeds for name in feed):
        return f"the first {len(feeds)} calibration samples are all equal"
    return None
