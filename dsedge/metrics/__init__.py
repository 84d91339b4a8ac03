"""Metrics of accuracy: from a model's outputs and labels, or the float model's outputs, to a number."""

from dsedge.metrics.base import Metric
from dsedge.metrics.evaluate import evaluate
from dsedge.metrics.registry import METRICS, find_metric

__all__ = ["METRICS", "Metric", "evaluate", "find_metric"]
