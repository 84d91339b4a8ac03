"""A function of the user as a metric."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from dsedge.errors import LoadError
from dsedge.metrics.base import Arrays, Metric, join
from dsedge.user_code import current_folder_first


def user_metric(name: str, function: Callable[[Arrays, np.ndarray], float]) -> Metric:
    """A metric that calls `function` once, with all outputs of all samples and the labels; more is better."""

    def total(parts: list[tuple[Arrays, np.ndarray]]) -> float:
        batches, labels = zip(*parts, strict=True)
        outputs = [join(arrays) for arrays in zip(*batches, strict=True)]
        try:
            return float(function(outputs, join(labels)))
        except Exception as error:  # it is the user's code
            because = f"{type(error).__name__}: {error}"
            raise LoadError("DS125", "the metric failed", where=name, because=because) from error

    return Metric(name, "its own", lambda outputs, labels: (outputs, labels), total, output=None)


def import_function(name: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules in the current folder are found too.

    Raises:
        LoadError: DS125 when it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        with current_folder_first():
            function: Callable[..., Any] = getattr(import_module(module), attribute)
    except Exception as error:  # importing runs the user's code
        because = f"{type(error).__name__}: {error}"
        raise LoadError("DS125", "the metric cannot be imported", where=name, because=because) from error
    if not callable(function):
        raise LoadError("DS125", "the metric is no function", where=name)
    return function
