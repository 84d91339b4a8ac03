"""Layout: how images lie in the artifact's inputs and outputs, `--io-layout nhwc` or `nchw`.

The graph is changed, not the backend: a Transpose behind an input, or before an output, and the graph's own interface
is the other one. Only the artifact has that interface. Data that the user gives, and the function that judges accuracy,
keep the layout of the model as it was given; whoever feeds the artifact itself reads its layout in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dsedge.accuracy import Judge
from dsedge.backends.base import Predict
from dsedge.data import Batch, Data, Feeds
from dsedge.errors import LoadError, did_you_mean
from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.base import run
from dsedge.passes.edit import fresh, value_names
from dsedge.passes.normalize import FINISH, clone

LAYOUTS = {"nhwc": "NHWC", "nchw": "NCHW"}
"""What `--io-layout` takes -> the letters."""
Axes = tuple[int, ...]
"""axes[k]: which axis of the model's array is axis k of the artifact's."""

_SPATIAL = frozenset(
    "Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool InstanceNormalization "
    "BatchNormalization LRN DepthToSpace SpaceToDepth".split()
)
_KEEPS = frozenset(
    "Add Sub Mul Div Neg Abs Sqrt Exp Log Pow Min Max Relu LeakyRelu PRelu Elu Selu Celu Gelu Clip Sigmoid HardSigmoid "
    "HardSwish Mish Softplus Tanh Erf Softmax LogSoftmax Cast Identity Dropout Pad Resize Upsample Concat Split Slice "
    "QuantizeLinear DequantizeLinear".split()
)
_CHOOSES = frozenset("Pad Resize Upsample Split Slice Clip PRelu Pow QuantizeLinear DequantizeLinear".split())
"""Of those, the ones whose first input alone is the data."""


@dataclass(frozen=True)
class Layout:
    """What changes between the model's interface and the artifact's.

    Attributes:
        inputs, outputs: name -> `Axes`, of those that change.
        letters: name -> the layout in the artifact ("NHWC"), where it is known.
    """

    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    letters: Mapping[str, str]

    @property
    def changes(self) -> bool:
        """Whether anything does."""
        return bool(self.inputs or self.outputs)

    def model(self, model: Model) -> Model:
        """A normalized model with the artifact's interface; the model itself when nothing changes."""
        if not self.changes:
            return model
        graph = clone(model.graph)
        taken = value_names(graph)
        for name, axes in self.inputs.items():
            _behind_input(graph.graph, name, axes, taken)
        for name, axes in self.outputs.items():
            _before_output(graph.graph, name, axes, taken)
        passes = discover()
        run([passes[name] for name in ("cancel-transposes", "eliminate-identity", *FINISH)], graph)
        return model.with_graph(graph)

    def data(self, data: Data) -> Data:
        """Samples of the model as samples of the artifact."""
        return _Permuted(data, self) if self.inputs else data

    def feeds(self, feeds: Feeds) -> Feeds:
        """Arrays for the model as arrays for the artifact."""
        return {
            k: np.ascontiguousarray(v.transpose(self.inputs[k])) if k in self.inputs else v for k, v in feeds.items()
        }

    def judge(self, judge: Judge, model: Model) -> Judge:
        """A judge of the model as one of the artifact: it sees the artifact through the model's interface."""
        if not self.changes:
            return judge
        back = [self.outputs.get(spec.name) for spec in model.outputs]

        def seen(predict: Predict) -> Predict:
            def run(feeds: Feeds) -> list[np.ndarray]:
                outputs = predict(self.feeds(feeds))
                return [
                    a if axes is None else a.transpose(np.argsort(axes)) for a, axes in zip(outputs, back, strict=True)
                ]

            return run

        return replace(
            judge,
            value=lambda predict: judge.value(seen(predict)),
            data=None if judge.data is None else self.data(judge.data),
        )


def find_layout(model: Model, wanted: str | None) -> Layout:
    """What has to change so that images lie as it is wanted.

    An input's layout is that of `TensorSpec`. That of a 4-D output is decided by what writes it, never by its sizes:
    followed backwards through operators that keep the meaning of axes (elementwise ones, Resize, Pad, Concat, Softmax)
    and through Transpose, it is what ONNX fixes for the convolution, pool or the like that is met, or the layout of the
    input that is met. Where none is met, or two disagree, the output stays as it is. The next value of a state lies as
    the state does.

    Args:
        model: normalized.
        wanted: a key of `LAYOUTS`, None for all as they are.

    Raises:
        LoadError: DS145 unknown layout, or no input or output is known to be an image.
    """
    letters = {spec.name: spec.layout for spec in model.inputs if spec.layout}
    for value in model.graph.graph.outputs:
        found = _written_as(value, letters)
        if found:
            letters[value.name or ""] = found
    if wanted is None:
        return Layout({}, {}, letters)
    if wanted not in LAYOUTS:
        raise LoadError("DS145", f"{wanted!r} is no layout", where="--io-layout", hint=did_you_mean(wanted, LAYOUTS))
    last = LAYOUTS[wanted]
    images = {name for name, layout in letters.items() if sorted(layout) == sorted(last)}
    if not images:
        what = "the model has no input or output that is known to be an image"
        because = "the layout of an input is told by the convolutions that read it"
        raise LoadError("DS145", what, where="--io-layout", because=because, hint="leave out --io-layout")
    axes = {name: tuple(letters[name].index(letter) for letter in last) for name in images if letters[name] != last}
    inputs = {spec.name: axes[spec.name] for spec in model.inputs if spec.name in axes}
    outputs = {spec.name: axes[spec.name] for spec in model.outputs if spec.name in axes and spec.name not in inputs}
    letters |= dict.fromkeys(axes, last)
    for state, output in model.states.items():
        outputs.pop(output, None)
        if state in inputs:
            outputs[output] = inputs[state]
        if state in letters:
            letters[output] = letters[state]
    return Layout(inputs, outputs, letters)


class _Permuted(Data):
    """Samples with the axes of some inputs in another order."""

    def __init__(self, data: Data, layout: Layout) -> None:
        self.source, self.samples, self.notes = data.source, data.samples, data.notes
        self._data, self._layout = data, layout

    def batches(self, max_batch: int = 1) -> Iterator[Batch]:
        """One pass over all samples."""
        return (self._permuted(batch) for batch in self._data.batches(max_batch))

    def head(self, n: int) -> list[Batch]:
        """The first `n` samples."""
        return [self._permuted(batch) for batch in self._data.head(n)]

    def sha256(self) -> str | None:
        """Of the samples as they were given."""
        return self._data.sha256()

    def _permuted(self, batch: Batch) -> Batch:
        return replace(batch, feeds=self._layout.feeds(batch.feeds))


def _written_as(output: ir.Value, known: Mapping[str, str]) -> str | None:
    """The layout of a 4-D graph output, None when nothing tells."""
    if output.shape is None or len(output.shape) != 4:
        return None
    found: set[str] = set()
    seen: set[tuple[ir.Value, Axes]] = set()
    walk: list[tuple[ir.Value, Axes]] = [(output, (0, 1, 2, 3))]  # axes[k]: which axis of the value is the output's k
    while walk:
        value, axes = walk.pop()
        if (value, axes) in seen or (value.shape is not None and len(value.shape) != 4):
            continue
        seen.add((value, axes))
        node = value.producer()
        if node is None:
            letters = known.get(value.name or "") if value.is_graph_input() else None
            if letters is not None and len(letters) == 4:
                found.add("".join(letters[axis] for axis in axes))
        elif node.domain:
            continue
        elif node.op_type in _SPATIAL:
            found.add("".join("NCHW"[axis] for axis in axes))
        elif node.op_type == "Transpose":
            perm = tuple(node.attributes.get_ints("perm", (3, 2, 1, 0)))
            walk += [(v, tuple(perm[axis] for axis in axes)) for v in node.inputs if v is not None and len(perm) == 4]
        elif node.op_type in _KEEPS:
            read = node.inputs[:1] if node.op_type in _CHOOSES else node.inputs
            walk += [(v, axes) for v in read if v is not None and v.const_value is None]
    return found.pop() if len(found) == 1 else None


def _behind_input(graph: ir.Graph, name: str, axes: Axes, taken: set[str]) -> None:
    """The input in the artifact's order, and a Transpose to the model's."""
    value = next(v for v in graph.inputs if v.name == name)
    inner = ir.Value(name=fresh(f"{name}_model_layout", taken), shape=value.shape, type=value.type)
    value.replace_all_uses_with(inner)
    value.shape = _permuted_shape(value, axes)
    back = [axes.index(axis) for axis in range(len(axes))]
    node = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", back)], outputs=[inner], name=f"{name}_io_layout")
    graph.insert_before(graph[0], node)


def _before_output(graph: ir.Graph, name: str, axes: Axes, taken: set[str]) -> None:
    """A Transpose from the model's order to the output's."""
    for i, value in enumerate(graph.outputs):
        if value.name != name:
            continue
        shape = _permuted_shape(value, axes)
        value.name = fresh(f"{name}_model_layout", taken)
        output = ir.Value(name=name, shape=shape, type=value.type)
        perm = [ir.AttrInt64s("perm", axes)]
        graph.append(ir.Node("", "Transpose", [value], perm, outputs=[output], name=f"{name}_io_layout"))
        graph.outputs[i] = output


def _permuted_shape(value: ir.Value, axes: Axes) -> ir.Shape | None:
    return None if value.shape is None else ir.Shape([value.shape[axis] for axis in axes])
