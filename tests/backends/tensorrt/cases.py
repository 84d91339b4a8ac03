"""Small graphs that break one rule of the lint each, and the same graphs as the rule wants them.

The node that a rule is about, where it is about one, is named "product". Weights are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto as T
from onnx import helper

FLOAT, HALF, INT8, UINT8, INT4 = T.FLOAT, T.FLOAT16, T.INT8, T.UINT8, T.INT4
Io = tuple[str, int, list[int | str] | None]


class Graph:
    """Builds a graph with quantizers of any type, valid ONNX or not."""

    def __init__(self, float_type: int = FLOAT, opset: int = 17) -> None:
        self.float_type, self.opset = float_type, opset
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def const(self, array: Any, dtype: int | None = None) -> str:
        array = np.asarray(array)
        name = f"c{len(self.weights)}"
        self.weights.append(helper.make_tensor(name, dtype or self.float_type, array.shape, array.ravel().tolist()))
        return name

    def op(self, op_type: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        name = name or f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name.lower()], name=name, domain=domain, **attributes))
        return name.lower()

    def parameters(self, scale: Any, zero_point: int | None, dtype: int) -> list[str]:
        if zero_point is None:
            return [self.const(scale)]
        return [self.const(scale), self.const(np.full(np.shape(scale), zero_point), dtype)]

    def quantize(self, x: str, scale: Any = 0.05, zero_point: int | None = 0, dtype: int = INT8, **attrs: Any) -> str:
        parameters = self.parameters(scale, zero_point, dtype)
        codes = self.op("QuantizeLinear", x, *parameters, **attrs)
        return self.op("DequantizeLinear", codes, *parameters, **attrs)

    def codes(self, shape: tuple[int, ...], scale: Any, zero_point: int = 0, dtype: int = INT8, **attrs: Any) -> str:
        low, high = (0, 16) if dtype == UINT8 else (-7, 8)
        values = self.const(self.rng.integers(low, high, shape), dtype)
        return self.op("DequantizeLinear", values, *self.parameters(scale, zero_point, dtype), **attrs)

    def model(self, *outputs: str, inputs: tuple[Io, ...], output_type: int | None = None) -> ir.Model:
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
        results = [helper.make_tensor_value_info(y, output_type or self.float_type, None) for y in outputs]
        graph = helper.make_graph(self.nodes, "g", infos, results, self.weights)
        domains = {n.domain for n in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 19 else 10))


def conv(
    *,
    data: dict[str, Any] | None = None,
    weight: dict[str, Any] | None = None,
    quantized: tuple[bool, bool] = (True, True),
    bias: str = "",
    op: str = "Conv",
    batch: int | str = 1,
    cut: bool = False,
    fill: float | None = None,
) -> ir.Model:
    """Conv 3x3 of 32 channels and Relu on [batch, 32, 8, 8]."""
    g, c = Graph(), 32
    x = g.quantize("x", **(data or {})) if quantized[0] else "x"
    shape = (c, c, 3, 3)
    if quantized[1]:
        w = g.codes(shape, **({"scale": np.full(c, 0.01), "axis": 0} | (weight or {})))
    else:
        w = g.const(g.rng.standard_normal(shape) if fill is None else np.full(shape, fill))
    inputs = [x, w]
    if bias == "float":
        inputs.append(g.const(np.ones(c)))
    if bias == "int32":
        inputs.append(g.codes((c,), np.full(c, 5e-4), dtype=T.INT32, axis=0))
    y = g.op(op, *inputs, name="product", pads=[1, 1, 1, 1])
    if cut:
        y = g.quantize(y)
    y = g.op("Relu", y)
    return g.model(y, inputs=(("x", FLOAT, [batch, c, 8, 8]),))


def past(
    *between: tuple[str, dict[str, Any]],
    constants: tuple[Any, ...] = (),
    shape: tuple[int, ...] = (1, 32, 8, 8),
    channels: int = 32,
) -> ir.Model:
    """A convolution of codes that operators stand behind; the first also reads constants."""
    g = Graph(opset=18)
    y = g.quantize("x")
    for i, (op, attributes) in enumerate(between):
        given = [g.const(each, T.INT64 if np.asarray(each).dtype.kind == "i" else None) for each in constants]
        y = g.op(op, y, *(given if i == 0 else ()), **attributes)
    weight = g.codes((32, channels, 1, 1), np.full(32, 0.01), axis=0)
    return g.model(g.op("Conv", y, weight, name="product"), inputs=(("x", FLOAT, list(shape)),))


def joined(scale: float) -> ir.Model:
    """A convolution of two concatenated inputs, the second in a scale of its own."""
    g = Graph()
    y = g.op("Concat", g.quantize("x"), g.quantize("z", scale=scale), axis=1)
    y = g.op("Conv", y, g.codes((32, 32, 1, 1), np.full(32, 0.01), axis=0), name="product")
    return g.model(y, inputs=(("x", FLOAT, [1, 16, 8, 8]), ("z", FLOAT, [1, 16, 8, 8])))


def weights_past(op: str, *constants: Any, **attributes: Any) -> ir.Model:
    """A product whose codes of weights an operator stands behind."""
    g = Graph()
    weight = g.codes((64, 64), np.full(64, 0.01), axis=0)
    y = g.op(
        "MatMul", g.quantize("x"), g.op(op, weight, *(g.const(c) for c in constants), **attributes), name="product"
    )
    return g.model(y, inputs=(("x", FLOAT, [16, 64]),))


def shape_input(*, constant: bool = False) -> ir.Model:
    """A Reshape to lengths that an input or a constant says."""
    g = Graph()
    lengths = g.const([2, 2], T.INT64) if constant else "lengths"
    y = g.op("Reshape", "x", g.op("Cast", lengths, to=T.INT64), name="product")
    inputs: tuple[Io, ...] = (("x", FLOAT, [4]),)
    return g.model(y, inputs=inputs if constant else (*inputs, ("lengths", T.INT64, [2])))


def matmul(
    *,
    op: str = "MatMul",
    data: dict[str, Any] | None = None,
    weight: dict[str, Any] | None = None,
    quantized: bool = True,
    float_type: int = FLOAT,
    opset: int = 17,
    inner: int = 256,
    **attributes: Any,
) -> ir.Model:
    """A product [16, inner] x [inner, 64], INT8 with a scale for each output channel unless `weight` says otherwise."""
    g = Graph(float_type, opset)
    x = g.quantize("x", **(data or {})) if quantized else "x"
    w = g.codes((inner, 64), **({"scale": np.full(64, 0.01), "axis": 1} | (weight or {})))
    return g.model(g.op(op, x, w, name="product", **attributes), inputs=(("x", float_type, [16, inner]),))


def int4(blocks: int | None = 64, *, float_type: int = HALF, quantized: bool = False) -> ir.Model:
    """A product with INT4 weights in blocks, or with a scale for each channel."""
    if blocks is None:
        weight: dict[str, Any] = {"scale": np.full(64, 0.01), "dtype": INT4, "axis": 1}
    else:
        scale = np.full((256 // blocks, 64), 0.01)
        weight = {"scale": scale, "dtype": INT4, "axis": 0, "block_size": blocks}
    return matmul(weight=weight, quantized=quantized, float_type=float_type, opset=21)


def fp8(dtype: int = T.FLOAT8E4M3FN) -> ir.Model:
    """A product of FP8 codes with one scale each."""
    one = {"scale": 0.01, "dtype": dtype}
    return matmul(data={"dtype": dtype}, weight=one, opset=19)


def single(
    op: str, dtype: int = FLOAT, *, opset: int = 17, domain: str = "", output_type: int | None = None, **attributes: Any
) -> ir.Model:
    """One operator on a vector."""
    g = Graph(dtype, opset)
    y = g.op(op, "x", name="product", domain=domain, **attributes)
    return g.model(y, inputs=(("x", dtype, [4]),), output_type=output_type)


def added(dtype: int) -> ir.Model:
    """A vector added to itself."""
    g = Graph(dtype)
    return g.model(g.op("Add", "x", "x", name="product"), inputs=(("x", dtype, [4]),))


def branches() -> ir.Model:
    """An If on what the input holds."""
    bodies = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        out = helper.make_tensor_value_info(name, FLOAT, [4])
        bodies[name] = helper.make_graph([helper.make_node(op, ["x"], [name], name=name)], name, [], [out])
    g = Graph()
    largest = g.op("ReduceMax", "x", keepdims=0)
    y = g.op("If", g.op("Greater", largest, g.const(0.0)), name="product", **bodies)
    return g.model(y, inputs=(("x", FLOAT, [4]),))


@dataclass(frozen=True)
class Case:
    """A graph that breaks a rule, and one that keeps it.

    Attributes:
        capability, version: of the GPU and of TensorRT that it is for; `kept_on` is the GPU for `keeps`, where it is
            the GPU that the rule is about.
        also: other rules that the same graph cannot help to break.
        coded: whether "product" is meant to compute on codes.
    """

    code: str
    name: str
    breaks: Callable[[], ir.Model]
    keeps: Callable[[], ir.Model]
    capability: str = "8.0"
    kept_on: str = ""
    also: tuple[str, ...] = ()
    version: str | None = None
    coded: bool = True

    def __str__(self) -> str:
        return f"{self.code}-{self.name}"


def _scales(bad: float) -> dict[str, Any]:
    return {"scale": np.where(np.arange(32) == 3, bad, 0.01)}


_PER_CHANNEL = {"scale": np.full(32, 0.05), "axis": 1}
CASES = (
    Case("TRT001", "bias", lambda: conv(bias="int32"), lambda: conv(bias="float")),
    Case("TRT002", "activation", lambda: conv(data={"zero_point": 3}), conv),
    Case("TRT002", "weight", lambda: conv(weight={"zero_point": 3}), conv),
    Case("TRT002", "uint8", lambda: conv(data={"zero_point": 128, "dtype": UINT8}), conv),
    Case("TRT003", "uint8", lambda: conv(weight={"dtype": UINT8}), conv),
    Case("TRT004", "stated", lambda: conv(data={"dtype": UINT8}), conv),
    Case("TRT004", "by-default", lambda: conv(data={"zero_point": None}), conv),
    Case("TRT005", "activation", lambda: conv(data={"dtype": T.INT16}), conv, also=("TRT105",)),
    Case("TRT005", "weight", lambda: conv(weight={"dtype": T.INT16}), conv, also=("TRT105",)),
    Case("TRT006", "conv", lambda: conv(data=_PER_CHANNEL), conv),
    Case("TRT006", "matmul", lambda: matmul(data={"scale": np.full(256, 0.05), "axis": 1}), matmul),
    Case("TRT007", "activation", lambda: conv(quantized=(True, False)), conv),
    Case("TRT007", "weight", lambda: conv(quantized=(False, True)), conv),
    Case("TRT007", "matmul", lambda: matmul(quantized=False), matmul),
    *(
        Case("TRT007", f"past-{name}", lambda: past(("Relu", {})), keeps)
        for name, keeps in {
            "identity": lambda: past(("Identity", {})),
            "reshape": lambda: past(("Reshape", {}), constants=([1, 32, 16, 4],)),
            "transpose": lambda: past(("Transpose", {"perm": [0, 1, 3, 2]})),
            "squeeze": lambda: past(("Squeeze", {}), constants=([0],), shape=(1, 1, 32, 8, 8)),
            "unsqueeze": lambda: past(("Unsqueeze", {}), constants=([0],), shape=(32, 8, 8)),
            "slice": lambda: past(("Slice", {}), constants=([0], [16], [1]), channels=16),
            "split": lambda: past(("Split", {"axis": 1, "num_outputs": 1})),
            "gather": lambda: past(("Gather", {"axis": 1}), constants=(list(range(16)),), channels=16),
            "tile": lambda: past(("Tile", {}), constants=([1, 2, 1, 1],), channels=64),
            "expand": lambda: past(("Expand", {}), constants=([2, 32, 8, 8],)),
            "depth-to-space": lambda: past(("DepthToSpace", {"blocksize": 2}), shape=(1, 128, 8, 8)),
            "space-to-depth": lambda: past(("SpaceToDepth", {"blocksize": 2}), shape=(1, 8, 8, 8)),
            "max-pool": lambda: past(("MaxPool", {"kernel_shape": [2, 2]})),
            "global-max-pool": lambda: past(("GlobalMaxPool", {})),
            "pad": lambda: past(("Pad", {}), constants=([0, 0, 1, 1, 0, 0, 1, 1],)),
            "factor": lambda: past(("Mul", {}), constants=(2.0,)),
        }.items()
    ),
    Case("TRT007", "concat", lambda: joined(0.06), lambda: joined(0.05)),
    Case("TRT007", "weight-past-transpose", lambda: weights_past("Sqrt"), lambda: weights_past("Transpose")),
    Case("TRT007", "weight-past-factor", lambda: weights_past("Mul", np.float32(2)), matmul),
    Case("TRT007", "padded", lambda: past(("Pad", {}), constants=([0, 0, 1, 1, 0, 0, 1, 1], 0.5)), lambda: past()),
    Case("TRT008", "conv", lambda: conv(weight={"axis": 1}), conv),
    Case("TRT008", "matmul", lambda: matmul(weight={"scale": np.full(256, 0.01), "axis": 0}), matmul),
    Case(
        "TRT008",
        "gemm",
        lambda: matmul(op="Gemm", weight={"scale": np.full(256, 0.01), "axis": 0}),
        lambda: matmul(op="Gemm"),
    ),
    Case(
        "TRT008",
        "transposed",
        lambda: matmul(op="Gemm", inner=64, transB=1),
        lambda: matmul(op="Gemm", inner=64, transB=1, weight={"axis": 0}),
    ),
    Case("TRT009", "axis-1", lambda: conv(op="ConvTranspose", weight={"axis": 1}), conv),
    Case("TRT010", "zero", lambda: conv(data={"scale": 0.0}), conv),
    Case("TRT010", "negative", lambda: conv(weight=_scales(-0.01)), conv),
    Case("TRT010", "nan", lambda: conv(weight=_scales(np.nan)), conv),
    Case("TRT011", "infinite", lambda: conv(weight=_scales(np.inf)), conv),
    Case("TRT011", "subnormal", lambda: conv(data={"scale": 1e-40}), conv),
    Case("TRT012", "ampere", fp8, fp8, kept_on="8.9"),
    Case("TRT012", "e5m2", lambda: fp8(T.FLOAT8E5M2), fp8, "8.9"),
    Case("TRT013", "turing", int4, int4, "7.5", kept_on="8.0"),
    Case("TRT014", "w4a8", lambda: int4(float_type=FLOAT, quantized=True), int4),
    Case("TRT015", "channels", lambda: int4(None), int4),
    Case("TRT015", "one-block", lambda: int4(256), int4, also=("TRT016",)),
    Case("TRT016", "blocks-of-16", lambda: int4(16), int4),
    Case("TRT017", "turing", conv, conv, "7.5", kept_on="8.0"),
    Case("TRT018", "relu", lambda: conv(cut=True), conv),
    Case("TRT101", "unique", lambda: single("Unique"), lambda: single("Relu"), coded=False),
    Case("TRT101", "domain", lambda: single("Custom", domain="custom"), lambda: single("Relu"), coded=False),
    Case("TRT102", "nonzero", lambda: single("NonZero", output_type=T.INT64), lambda: single("Relu"), coded=False),
    Case("TRT103", "8.5", lambda: single("Relu", opset=18), lambda: single("Relu"), version="8.5", coded=False),
    Case(
        "TRT103", "22", lambda: single("Relu", opset=22), lambda: single("Relu", opset=21), version="10.5", coded=False
    ),
    Case("TRT103", "old", lambda: single("Relu", opset=8), lambda: single("Relu"), version="10.3", coded=False),
    Case("TRT104", "batch", lambda: conv(batch="N"), conv),
    Case("TRT114", "shrink", lambda: single("Shrink"), lambda: single("Softplus"), version="8.5", coded=False),
    Case("TRT113", "reshape", shape_input, lambda: shape_input(constant=True), coded=False),
    Case("TRT105", "string", lambda: single("Identity", T.STRING), lambda: single("Identity"), coded=False),
    Case("TRT105", "uint32", lambda: single("Identity", T.UINT32), lambda: single("Identity", T.INT32), coded=False),
    Case("TRT106", "double", lambda: single("Exp", T.DOUBLE), lambda: single("Exp"), coded=False),
    Case("TRT107", "add", lambda: added(UINT8), lambda: added(T.INT32), coded=False),
    Case("TRT108", "if", branches, lambda: single("Relu"), coded=False),
    Case("TRT110", "nan", lambda: conv(quantized=(False, False), fill=np.nan), conv, coded=False),
    Case("TRT111", "turing", lambda: single("Relu", T.BFLOAT16), lambda: single("Relu", HALF), "7.5", coded=False),
    Case("TRT112", "turing", matmul, lambda: matmul(float_type=HALF, opset=19), "7.5"),
)
