"""Streaming models: what they hand from one call to the next.

A streaming model reads a frame and its state, and writes its results and the next state. Which output is the next value
of which input, the graph does not say, so the user does: `--state h=h_next`. Samples are then frames in order, without
the states: those are zero at the start, and after that what the float model wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.backends.base import Predict
from dsedge.data import Batch, Data, Feeds, open_data
from dsedge.errors import LoadError, did_you_mean
from dsedge.model import Model, TensorSpec
from dsedge.session import open_session


def with_states(model: Model, states: Mapping[str, str]) -> Model:
    """The model with its states: input name -> the output that is its next value.

    Raises:
        LoadError: DS145 a name that the model does not have, two inputs with one output, or a pair of other shapes.
    """
    inputs, outputs = ({spec.name: spec for spec in specs} for specs in (model.inputs, model.outputs))
    for name, output in states.items():
        for word, known in ((name, inputs), (output, outputs)):
            if word not in known:
                side = "input" if known is inputs else "output"
                what = f"the model has no {side} {word!r}"
                raise LoadError("DS145", what, where="--state", hint=did_you_mean(word, known))
        one, other = inputs[name], outputs[output]
        if one.dtype != other.dtype or not _fits(one, other):
            raise LoadError("DS145", f"the state {one} cannot be the output {other}", where="--state")
    if len(set(states.values())) < len(states):
        raise LoadError("DS145", "two states are the same output", where="--state")
    if states and len(states) == len(inputs):
        raise LoadError("DS145", "all inputs are states", where="--state", because="there is no frame to read")
    return replace(model, states=dict(states))


def from_options(options: Iterable[str]) -> dict[str, str]:
    """The `--state` options of a command line as a mapping.

    Raises:
        LoadError: DS145 when one is not of the form INPUT=OUTPUT, or an input comes twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, equals, output = option.partition("=")
        if not (name and equals and output) or name in found:
            raise LoadError("DS145", f"{option!r} is not INPUT=OUTPUT, once for each state", where="--state")
        found[name] = output
    return found


def open_samples(source: Any, model: Model, *, recipe: str | Path | None = None, labelled: bool = False) -> Data:
    """`open_data`, and for a streaming model the states beside the frames."""
    data = open_data(source, model, recipe=recipe, labelled=labelled)
    return Stream(data, model) if model.states else data


class Stream(Data):
    """Frames in order, each with the state that the float model left behind.

    Args:
        frames: opened for the inputs that are no states.
        model: with its states.
    """

    def __init__(self, frames: Data, model: Model) -> None:
        self.source, self.samples, self.notes = frames.source, frames.samples, frames.notes
        self._frames, self._model = frames, model

    def batches(self, max_batch: int = 1) -> Iterator[Batch]:
        """One pass over all frames, one by one whatever `max_batch` is."""
        return self._with_states(self._frames.batches(1))

    def head(self, n: int) -> list[Batch]:
        """The first `n` frames."""
        return list(self._with_states(self._frames.head(n)))

    def sha256(self) -> str | None:
        """Of the frames."""
        return self._frames.sha256()

    def _with_states(self, frames: Iterable[Batch]) -> Iterator[Batch]:
        session = open_session(self._model.graph)
        state = first_state(self._model)
        for frame in frames:
            feeds = {**frame.feeds, **state}
            yield replace(frame, feeds=feeds)
            state = _next(self._model, session.run(list(self._model.states.values()), feeds))


def closed_loop(predict: Predict, model: Model) -> Predict:
    """A function from feeds to outputs that reads the states it wrote itself, beginning at zero."""
    names = [spec.name for spec in model.outputs]
    places = [names.index(output) for output in model.states.values()]
    state = first_state(model)

    def run(feeds: Feeds) -> list[np.ndarray]:
        outputs = predict({**feeds, **state})
        state.update(_next(model, [outputs[place] for place in places]))
        return outputs

    return run


def first_state(model: Model) -> Feeds:
    """Zeros; an axis of open length is 1 long."""
    specs = {spec.name: spec for spec in model.inputs}
    return {
        name: np.zeros([d if isinstance(d, int) else 1 for d in specs[name].shape or ()], specs[name].dtype)
        for name in model.states
    }


def _next(model: Model, values: Iterable[np.ndarray]) -> Feeds:
    return dict(zip(model.states, values, strict=True))


def _fits(one: TensorSpec, other: TensorSpec) -> bool:
    if one.shape is None or other.shape is None:
        return one.shape is not None
    pairs = zip(one.shape, other.shape, strict=False)
    both = all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in pairs)
    return len(one.shape) == len(other.shape) and both
