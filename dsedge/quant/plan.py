"""The plan: what is quantized, how, and why the rest is not.

`annotate` makes it from a graph and a contract, `assign_ranges` fills in the numbers from calibration, `insert` turns
it into Q/DQ nodes, and `dsedge explain` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Precision = Literal["int8", "int8_dynamic", "int4", "fp16", "bf16", "float", "integer"]


@dataclass(frozen=True)
class QParams:
    """Parameters of a uniform affine quantizer: real = scale * (q - zero_point).

    Attributes:
        scale: float32, shape () per tensor or [channels] per channel; in blocks the shape of the values, but along
            `axis` the number of blocks.
        zero_point: integers of `dtype`, the same shape.
        dtype: "uint8", "int8" or "uint4".
        axis: the channel axis, or the axis that is cut into blocks; None per tensor.
        block: how many numbers along `axis` share a scale, None where a whole channel does.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.integer[Any]]
    dtype: str
    axis: int | None = None
    block: int | None = None


@dataclass(frozen=True)
class NodePlan:
    """What happens to one node.

    Attributes:
        name, op_type: of the node.
        precision: "int8", "int8_dynamic" (INT8 weights, activations quantized at run time), "int4" (weights in blocks),
            "fp16" (weights stored as float16, computed in float32), "bf16" (computed in bfloat16), "float", or
            "integer" for a node that works on shapes, indices or booleans and has nothing to quantize.
        reason: why, in words.
        head: name of the node that this one is fused into, None when it stands for itself.
        inputs: indices of the activation inputs that it reads through Q/DQ.
        weights: indices of the constant inputs that are stored in `precision`.
        axis: per-channel axis of the weights, for "int4" the axis of their blocks.
        bias: index of the bias input that is stored as int32, or None.
        output: whether its output is written through Q/DQ.
        reads: names of the values that `inputs` stands for.
        result: name of its first output.
        weight_qparams: for each index in `weights` its parameters; empty before calibration, because the bias must fit
            the grid that they and the input's scale make, and empty for "fp16".
    """

    name: str
    op_type: str
    precision: Precision
    reason: str
    head: str | None = None
    inputs: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    axis: int | None = None
    bias: int | None = None
    output: bool = False
    reads: tuple[str, ...] = ()
    result: str = ""
    weight_qparams: Mapping[int, QParams] = field(default_factory=dict)


@dataclass(frozen=True)
class ValuePlan:
    """What happens to one activation.

    Attributes:
        name: of the value.
        group: name of its tie group; values of one group share scale and zero point.
        fixed: scale and zero point imposed by the runtime, or None.
        symmetric: whether the runtime wants its zero point, and so that of its group, in the middle of the codes.
        range: the calibrated range (low, high), None before calibration.
        qparams: its parameters, None before calibration.
    """

    name: str
    group: str
    fixed: tuple[float, int] | None = None
    symmetric: bool = False
    range: tuple[float, float] | None = None
    qparams: QParams | None = None


def _span(params: QParams) -> dict[str, Any]:
    """Weight parameters for people: their type, channels, and least and greatest scale."""
    low, high = float(params.scale.min()), float(params.scale.max())
    count, block = params.scale.size, params.block
    span = {"dtype": params.dtype, "axis": params.axis, "channels": count, "least": low, "greatest": high}
    return span if block is None else span | {"block": block}


@dataclass(frozen=True)
class QuantPlan:
    """The plan for one graph under one contract.

    Attributes:
        contract: id of the contract.
        nodes: node name -> what happens to it, in the graph's order.
        values: value name -> what happens to it; only values that are quantized.
    """

    contract: str
    nodes: dict[str, NodePlan]
    values: dict[str, ValuePlan] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Whether any node is held in less than float32."""
        return any(n.precision not in ("float", "integer") for n in self.nodes.values())

    def tied(self, pairs: Iterable[tuple[str, str]]) -> QuantPlan:
        """The plan with each pair of values in one tie group, where both are quantized."""
        values = dict(self.values)
        for one, other in pairs:
            if one in values and other in values:
                kept, gone = values[one].group, values[other].group
                values = {name: replace(v, group=kept) if v.group == gone else v for name, v in values.items()}
        return replace(self, values=values)

    def groups(self) -> dict[str, list[str]]:
        """Tie group -> the values in it."""
        out: dict[str, list[str]] = {}
        for value in self.values.values():
            out.setdefault(value.group, []).append(value.name)
        return out

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data, for the bundle."""
        nodes = [
            {
                "name": n.name,
                "op": n.op_type,
                "precision": n.precision,
                "reason": n.reason,
                "fused_into": n.head,
                "inputs": list(n.inputs),
                "weights": list(n.weights),
                "weight_scales": [_span(n.weight_qparams[i]) for i in n.weights if i in n.weight_qparams],
                "output": n.output,
                "reads": list(n.reads),
                "result": n.result,
            }
            for n in self.nodes.values()
        ]
        values = [
            {
                "name": v.name,
                "group": v.group,
                "range": None if v.range is None else [float(x) for x in v.range],
                "scale": None if v.qparams is None else float(v.qparams.scale),
                "zero_point": None if v.qparams is None else int(v.qparams.zero_point),
                "dtype": None if v.qparams is None else v.qparams.dtype,
            }
            for v in self.values.values()
        ]
        return {"contract": self.contract, "nodes": nodes, "values": values}
