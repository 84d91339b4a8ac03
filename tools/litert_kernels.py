"""Which INT8 kernels of LiteRT pay: each against the float one between two conversions, by their graphs.

    python tools/litert_kernels.py [OPERATOR ...]

Both files read and write codes and differ in one operator. The contract of the LiteRT backend leaves in float what is
faster there with XNNPACK; `built in` shows the same without it, as in tflite-runtime 2.14. Times are medians of runs in
turn on one thread of this machine: read the ratio, above 1 where the INT8 kernel is faster. Where XNNPACK runs only a
part of the operators, the partition is cut there, which costs more in a whole network than here. Times of pools and
of Resize hold two transposes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from dsedge.backends.litert.audit import delegation
from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.read import read
from dsedge.bench.runner import time_alternately
from dsedge.passes import discover
from dsedge.passes.edit import PRECISION

IMAGE, SEQUENCE = (1, 64, 32, 32), (4, 128, 128)
RUNS = 50


@dataclass(frozen=True)
class Case:
    """A node: its inputs are shapes of codes, or constants; `written` is scale and zero point of the result."""

    op: str
    inputs: Sequence[tuple[int, ...] | np.ndarray] = (IMAGE,)
    attributes: dict[str, Any] = field(default_factory=dict)
    written: tuple[float, int] = (0.03, -100)


WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}
CASES = [
    Case("Sigmoid", written=(1 / 256, -128)),
    Case("Tanh", written=(1 / 128, 0)),
    Case("LeakyRelu", attributes={"alpha": 0.1}),
    Case("Elu"),
    Case("HardSwish"),
    Case("PRelu", (IMAGE, np.arange(4, 68, dtype=np.int8).reshape(64, 1, 1))),
    Case("Gelu"),
    Case("Exp"),
    Case("Abs"),
    Case("Relu"),
    Case("Add", (IMAGE, IMAGE)),
    Case("Mul", (IMAGE, IMAGE)),
    Case("Max", (IMAGE, IMAGE), written=(0.05, 0)),
    Case("AveragePool", attributes=WINDOW, written=(0.05, 0)),
    Case("MaxPool", attributes=WINDOW, written=(0.05, 0)),
    Case("GlobalAveragePool"),
    Case("Resize", (IMAGE, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)), written=(0.05, 0)),
    Case(
        "Resize",
        (IMAGE, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)),
        {"mode": "linear"},
        written=(0.05, 0),
    ),
    Case("Softmax", (SEQUENCE,), written=(1 / 256, -128)),
    Case("MatMul", (SEQUENCE, SEQUENCE)),
]


def model(case: Case, *, in_float: bool) -> ir.Model:
    """Codes, the node between pairs, and codes."""
    names, nodes, fed, constants = [], [], [], []
    for name, (scale, zero) in {"in": (0.05, 0), "out": case.written}.items():
        constants += [numpy_helper.from_array(np.array(scale, np.float32), f"{name}_scale")]
        constants += [numpy_helper.from_array(np.array(zero, np.int8), f"{name}_zero")]
    for i, given in enumerate(case.inputs):
        real = f"x{i}"
        if isinstance(given, tuple):
            fed.append(helper.make_tensor_value_info(f"codes{i}", onnx.TensorProto.INT8, given))
            nodes.append(helper.make_node("DequantizeLinear", [f"codes{i}", "in_scale", "in_zero"], [real]))
        elif given.dtype == np.int8:
            constants.append(numpy_helper.from_array(given, f"codes{i}"))
            nodes.append(helper.make_node("DequantizeLinear", [f"codes{i}", "in_scale", "in_zero"], [real]))
        elif given.size:
            constants.append(numpy_helper.from_array(given, real))
        else:
            real = ""
        names.append(real)
    nodes.append(helper.make_node(case.op, names, ["y"], name="measured", **case.attributes))
    nodes.append(helper.make_node("QuantizeLinear", ["y", "out_scale", "out_zero"], ["codes"]))
    result = helper.make_empty_tensor_value_info("codes")
    graph = helper.make_graph(nodes, "one", fed, [result], constants)
    made = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    discover()["infer-shapes"]()(made)
    if in_float:
        next(n for n in made.graph if n.name == "measured").metadata_props[PRECISION] = "float"
    return made


def measure(case: Case, folder: Path, *, xnnpack: bool) -> tuple[float, float, str]:
    """Median microseconds in INT8 and in float between conversions, and which operators of the first XNNPACK leaves."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runs, outside = [], ""
    for name, in_float in (("int8", False), ("float", True)):
        path = folder / f"{name}.tflite"
        path.write_bytes(emit(model(case, in_float=in_float))[0])
        operators = read(path)
        if not in_float:
            taken = delegation(path, operators)
            outside = " ".join(o.op for o in operators if not taken.takes(o))
            assert all(o.precision != "float" for o in operators), f"{case.op} has no INT8 kernel"
        interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], rng.integers(-128, 128, detail["shape"]).astype(np.int8))
        runs.append(lambda feeds, interpreter=interpreter: interpreter.invoke())
    int8, real = (float(np.median(times)) * 1e3 for times in time_alternately(runs, {}, RUNS))
    return int8, real, outside


def main() -> None:
    wanted = sys.argv[1:]
    print(f"{'operator':20} {'XNNPACK':>13} {'float':>9} {'ratio':>6} {'built in':>14} {'float':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if wanted and case.op not in wanted:
                continue
            name = f"{case.op} {case.attributes.get('mode', '')}".strip()
            cells = []
            for xnnpack, width in ((True, 13), (False, 14)):
                int8, real, outside = measure(case, Path(folder), xnnpack=xnnpack)
                cells.append(f"{int8:>{width - 3}.1f} us {real:>6.1f} us {real / int8:>6.2f}")
            print(f"{name:20} {' '.join(cells)}  {f'not in XNNPACK: {outside}' if outside else ''}".rstrip())


if __name__ == "__main__":
    main()
