"""What a metric is: a part for each batch, and a total of all parts, so that outputs need not be kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsedge.errors import LoadError

Arrays = list[np.ndarray]


def fall(float_value: float, quantized_value: float) -> float:
    """The drop of a metric of which more is better, in its own unit."""
    return float_value - quantized_value


def rise(float_value: float, quantized_value: float) -> float:
    """The drop of a metric of which less is better, in its own unit."""
    return quantized_value - float_value


def mean(parts: list[np.ndarray]) -> float:
    """The mean of the values of all batches."""
    return float(np.mean(np.concatenate(parts)))


@dataclass(frozen=True)
class Metric:
    """How good outputs are.

    Attributes:
        name: what the user calls it.
        unit: of the number and of its drop; "points" are 0 to 100.
        partial: from the judged outputs of a batch, each [n, ...], and its labels [n, ...] to what `total` needs; here
            values, one or more a sample.
        total: from what `partial` gave for all batches to the number.
        drop: from the float model's number and the artifact's to how much worse it is; negative when it is better.
        output: index of the output that is judged; None for all of them.
        against_float: whether the float model's own outputs, a list like the first argument, take the place of labels.
        drop_unit: of the drop where it has a unit of its own.
        perfect: the number that stands for no difference at all, where that has no number of its own.
    """

    name: str
    unit: str
    partial: Callable[[Arrays, Any], Any]
    total: Callable[[list[Any]], float] = mean
    drop: Callable[[float, float], float] = fall
    output: int | None = 0
    against_float: bool = False
    drop_unit: str | None = None
    perfect: float | None = None


def labels_unfit(what: str, because: str | None = None, hint: str | None = None) -> LoadError:
    """DS124: the labels, or the outputs, are not those of the metric."""
    return LoadError("DS124", what, because=because, hint=hint)


def class_scores(output: np.ndarray) -> np.ndarray:
    """Class scores [n, ..., C] without axes of length one behind C, which pooling leaves ([n, C, 1, 1])."""
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    return output


def both(outputs: Arrays, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a metric that needs all scores and labels at once."""
    return outputs[0], labels


def joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The scores and the labels of all batches.

    Raises:
        LoadError: DS124 when the outputs have different shapes from sample to sample.
    """
    outputs, labels = zip(*parts, strict=True)
    return join(outputs), join(labels)


def join(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """Arrays [n, ...] of all batches as one.

    Raises:
        LoadError: DS124 when their shapes differ in more than the first axis.
    """
    if len({array.shape[1:] for array in arrays}) > 1:
        raise labels_unfit("the metric needs outputs and labels of the same shape for all samples")
    return np.concatenate(arrays)
