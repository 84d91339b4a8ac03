"""Accuracy: how the float model and an artifact are judged on the same evaluation data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsedge import metrics
from dsedge.backends.base import Predict
from dsedge.bundle import Metric
from dsedge.data import Data
from dsedge.errors import LoadError, VerifyError
from dsedge.model import Model
from dsedge.streaming import closed_loop, open_samples

Evaluate = Callable[[Predict], float] | tuple[Any, str | Callable[[list[np.ndarray], np.ndarray], float]]
"""A function from a predict function to a number, higher is better; or data and what `metrics.find_metric` takes."""

_UNLABELLED = "judge without labels, by --metric sqnr or --metric agreement"


@dataclass(frozen=True)
class Judge:
    """How accuracy is judged. The float model must be the first: metrics against it compare with what was first judged.

    Attributes:
        name: of the metric.
        value: from a predict function to the value and the number of samples.
        drop: from the float value and the quantized one to the drop; positive is worse.
        max_drop: the gate's limit, None for no gate.
        data: the evaluation data, None when a function of the user judges.
    """

    name: str
    value: Callable[[Predict], tuple[float, int | None]]
    drop: Callable[[float, float], float]
    max_drop: float | None
    data: Data | None

    def measured(self, predict: Predict) -> tuple[float, int | None]:
        """The metric and the number of samples.

        Raises:
            VerifyError: DS501 when the metric is not finite: the outputs hold NaN.
        """
        value, samples = self.value(predict)
        if not math.isfinite(value):
            raise VerifyError(
                "DS501", f"{self.name} is {value}", because="the model's outputs hold NaN for the evaluation data"
            )
        return value, samples

    def compare(self, reference: float, predict: Predict) -> Metric:
        """The metric of an artifact beside the float model's."""
        value, samples = self.measured(predict)
        drop = round(self.drop(reference, value), 6)
        return Metric(name=self.name, float=reference, quantized=value, drop=drop, samples=samples)


def judge_by(
    evaluate: Evaluate | None, max_drop: float | None, model: Model, recipe: str | Path | None
) -> Judge | None:
    """A judge out of what the user gave; None when there is nothing to judge by.

    Raises:
        LoadError: DS145 a limit without data, DS125 unknown metric, DS12x unusable data.
    """
    if evaluate is None:
        if max_drop is not None:
            raise LoadError(
                "DS145", "max_drop needs evaluation data", hint="give --eval DATA, or evaluate=(data, metric)"
            )
        return None
    if max_drop is not None and not 0 <= max_drop < float("inf"):
        raise LoadError("DS145", f"max_drop is {max_drop}, not a number from 0 upwards")
    if callable(evaluate):
        function = evaluate
        return Judge("evaluate", lambda predict: (float(function(predict)), None), lambda a, b: a - b, max_drop, None)
    source, wanted = evaluate
    metric = metrics.find_metric(wanted, [output.name for output in model.outputs])
    try:
        opened = open_samples(source, model, recipe=recipe, labelled=not metric.against_float)
    except LoadError as error:
        if error.code != "DS124":
            raise
        hint = "; or ".join([*([error.hint] if error.hint else []), _UNLABELLED])
        raise LoadError("DS124", error.what, where=error.where, because=error.because, hint=hint) from error
    float_model: list[Predict] = []

    def value(predict: Predict) -> tuple[float, int]:
        if not float_model:
            float_model.append(predict)
        own, reference = (closed_loop(p, model) if model.states else p for p in (predict, float_model[0]))
        return metrics.evaluate(own, opened, metric, reference)

    return Judge(metric.name, value, metric.drop, max_drop, opened)
