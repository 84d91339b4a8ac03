"""Hostile models and bundles for LiteRT, whose runtime ends the process where others raise an error."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from attacks.hostile import BOARD, CALIBRATION, MODEL, Ended, environment, refused, save
from onnx import TensorProto, helper, numpy_helper

import dsedge

Attempt = Callable[..., Ended]
NODE, VALUE = helper.make_node, helper.make_tensor_value_info
FLOAT, UINT8, INT8, UINT16, DOUBLE = (
    getattr(TensorProto, kind) for kind in ("FLOAT", "UINT8", "INT8", "UINT16", "DOUBLE")
)
WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
MATMUL = NODE("MatMul", ["x", "w"], ["y"], name="product")


def model(
    *nodes: onnx.NodeProto,
    x: tuple[int | str, ...] = ("N", 8),
    kind: int = FLOAT,
    output: int = FLOAT,
    **constants: object,
) -> onnx.ModelProto:
    """From `x` to `y`."""
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [VALUE("x", kind, x)], [VALUE("y", output, None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def one(op: str, *inputs: str, x: tuple[int | str, ...] = ("N", 8), **more: object) -> onnx.ModelProto:
    """One node; arrays are constants, all else its attributes."""
    constants = {name: value for name, value in more.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in more.items() if name not in constants}
    return model(NODE(op, ["x", *inputs], ["y"], name="only", **attributes), x=x, **constants)


def pairs(
    *,
    scale: object = 0.05,
    zero: int = 0,
    dtype: type = np.int8,
    axis: int | None = None,
    weight: type = np.int8,
    offset: int = 0,
) -> onnx.ModelProto:
    """A product between Q/DQ pairs."""
    scales = np.asarray(scale, np.float32)
    where = {} if axis is None else {"axis": axis}
    codes = np.random.default_rng(0).integers(0, 127, (8, 8)).astype(weight)
    return model(
        NODE("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize", **where),
        NODE("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantize", **where),
        NODE("DequantizeLinear", ["w", "ws", "wz"], ["v"], name="weight"),
        NODE("MatMul", ["d", "v"], ["m"], name="product"),
        NODE("QuantizeLinear", ["m", "t", "tz"], ["p"], name="quantize_y"),
        NODE("DequantizeLinear", ["p", "t", "tz"], ["y"], name="dequantize_y"),
        s=scales,
        z=np.full(scales.shape, zero, dtype),
        w=codes,
        ws=np.float32(0.01),
        wz=np.array(offset, weight),
        t=np.float32(0.3),
        tz=np.int8(0),
    )


def scattered(dtype: type) -> onnx.ModelProto:
    """Its ADD of bytes that are no codes would end the process."""
    node = NODE("ScatterND", ["x", "at", "new"], ["y"], reduction="add")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return model(node, x=(4, 4), kind=kind, output=kind, at=np.zeros((1, 2), np.int64), new=np.ones(1, dtype))


def codes_read_twice() -> onnx.ModelProto:
    """The same codes under two scales."""
    return model(
        NODE("QuantizeLinear", ["x", "s", "z"], ["q"]),
        NODE("DequantizeLinear", ["q", "s", "z"], ["a"]),
        NODE("DequantizeLinear", ["q", "t", "z"], ["b"]),
        NODE("Add", ["a", "b"], ["y"]),
        s=np.float32(0.1),
        t=np.float32(0.2),
        z=np.int8(3),
    )


def codes_as_integers() -> onnx.ModelProto:
    return model(
        NODE("QuantizeLinear", ["x", "s", "z"], ["q"]),
        NODE("DequantizeLinear", ["q", "s", "z"], ["a"]),
        NODE("Cast", ["q"], ["b"], to=FLOAT),
        NODE("Add", ["a", "b"], ["y"]),
        s=np.float32(0.1),
        z=np.uint8(3),
    )


SEVEN, NINE = (1, 2, 3, 2, 2, 2, 2), (1, 2, 2, 2, 2, 2, 2, 2, 2)
REFUSED: dict[str, tuple[str, str, Callable[[], onnx.ModelProto]]] = {
    "an open axis": ("DS106", "--shape x=1,128,8", lambda: one("Relu", x=("N", "S", 8))),
    "7 axes to transpose": ("DS201", "6 axes", lambda: one("Transpose", x=SEVEN, perm=[6, 5, 4, 3, 2, 1, 0])),
    "7 axes to reduce": ("DS201", "6 axes", lambda: one("ReduceMean", "a", x=SEVEN, a=np.array([2]))),
    "7 axes to join": ("DS201", "6 axes", lambda: one("Concat", "x", x=SEVEN, axis=3)),
    "9 axes": ("DS201", "8 axes", lambda: one("Relu", x=NINE)),
    "4 GiB to read": ("DS201", "4.0 GiB", lambda: one("Relu", x=("N", 2**30))),
    "16 GiB in the middle": (
        "DS201",
        "16.0 GiB",
        lambda: model(
            NODE("ConstantOfShape", ["s"], ["c"]),
            NODE("ReduceSum", ["c"], ["r"], keepdims=0),
            NODE("Add", ["x", "r"], ["y"]),
            s=np.array([2**16, 2**16]),
        ),
    ),
    "more elements than int32 counts": (
        "DS201",
        "GiB",
        lambda: one("Expand", "s", x=("N", 8, 1), s=np.array([1, 8, 2**40])),
    ),
    "an empty slice": ("DS201", "takes nothing", lambda: one("Slice", "a", "a", "a", a=np.array([0]))),
    "uint16": ("DS201", "uint16", lambda: model(NODE("Cast", ["x"], ["y"], to=FLOAT), kind=UINT16)),
    "float64": ("DS201", "float64", lambda: model(NODE("Relu", ["x"], ["y"]), kind=DOUBLE, output=DOUBLE)),
    "a table of booleans to reduce": (
        "DS201",
        "no kernel for bool",
        lambda: model(NODE("ReduceMax", ["x"], ["y"]), kind=TensorProto.BOOL, output=TensorProto.BOOL),
    ),
    "a product of integers": (
        "DS201",
        "no kernel for int32",
        lambda: model(MATMUL, kind=TensorProto.INT32, output=TensorProto.INT32, w=np.ones((8, 8), np.int32)),
    ),
    "a sum of bytes": ("DS201", "no kernel for uint8", lambda: scattered(np.uint8)),
    "a channel with scales of its own": (
        "DS201",
        "each of its channels",
        lambda: pairs(scale=np.linspace(0.1, 0.2, 8), axis=1),
    ),
    "uint16 codes": ("DS201", "uint16", lambda: pairs(dtype=np.uint16, zero=2**15)),
    "int16 codes with a zero point": ("DS201", "int16", lambda: pairs(dtype=np.int16, zero=7)),
    "a scale of nothing": ("DS201", "its scale is 0", lambda: pairs(scale=0.0)),
    "a scale below nothing": ("DS201", "its scale is -0.1", lambda: pairs(scale=-0.1)),
    "an infinite scale": ("DS201", "its scale is inf", lambda: pairs(scale=np.inf)),
    "one code of two scales": ("DS201", "other scales", codes_read_twice),
    "codes that are read as integers": ("DS201", "another operator", codes_as_integers),
    "codes as output": (
        "DS201",
        "--io-dtype",
        lambda: model(
            NODE("MatMul", ["x", "w"], ["m"]),
            NODE("QuantizeLinear", ["m", "s", "z"], ["y"]),
            output=UINT8,
            w=WEIGHT,
            s=np.float32(0.1),
            z=np.uint8(3),
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(attempt: Attempt, tmp_path: Path, name: str) -> None:
    code, words, make = REFUSED[name]
    path = save(make(), tmp_path / "m.onnx")
    refused(attempt("--runtime", "litert", model=path, calib="random"), code, words, "hint")


def dead() -> onnx.ModelProto:
    """A Relu that lets nothing through."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 3, 3, 3), (4, 8, 3, 3)))
    return model(
        NODE("Conv", ["x", "w", "b"], ["a"]),
        NODE("Relu", ["a"], ["r"]),
        NODE("Conv", ["r", "v"], ["y"]),
        x=("N", 3, 8, 8),
        w=first,
        b=np.full(8, -100, np.float32),
        v=second,
    )


def named(input_name: str, output_name: str) -> onnx.ModelProto:
    proto = model(MATMUL, w=WEIGHT)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = input_name
    proto.graph.output[0].name = proto.graph.node[0].output[0] = output_name
    return proto


def with_output(name: str, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    proto = model(MATMUL, *nodes, w=WEIGHT)
    proto.graph.output.append(VALUE(name, FLOAT, [8 if name == "w" else "N", 8]))
    return proto


COMPILED: dict[str, Callable[[], onnx.ModelProto]] = {
    "a Relu that lets nothing through": dead,
    "a product far above its result": lambda: pairs(scale=1e30),
    "weights of nothing": lambda: model(MATMUL, w=WEIGHT * 0),
    "weights below float32": lambda: model(MATMUL, w=WEIGHT * 1e-42),
    "infinite bounds": lambda: model(
        NODE("MatMul", ["x", "w"], ["m"]),
        NODE("Clip", ["m", "a", "b"], ["y"]),
        w=WEIGHT,
        a=np.float32(-np.inf),
        b=np.float32(np.inf),
    ),
    "minus infinity": lambda: one("Add", "a", a=np.full(8, -np.inf, np.float32)),
    "booleans": lambda: model(NODE("Not", ["x"], ["y"]), kind=TensorProto.BOOL, output=TensorProto.BOOL),
    "nothing but Identity": lambda: one("Identity"),
    "an input that is an output": lambda: with_output("x"),
    "a weight that is an output": lambda: with_output("w"),
    "one output twice": lambda: with_output("z", NODE("Identity", ["y"], ["z"])),
    "names of tensors that are derived": lambda: named("product_bias", "product_transposed"),
    "a name of 100 000 letters": lambda: named("n" * 100_000, "y"),
    "a name that is no identifier": lambda: named("\u202e/\x1b[2J", "serving_default"),
    "int16 codes": lambda: pairs(scale=0.001, dtype=np.int16),
    "uint8 codes": lambda: pairs(dtype=np.uint8, zero=128),
    "weights with a zero point": lambda: pairs(weight=np.uint8, offset=3),
}


@pytest.mark.parametrize("name", COMPILED)
def test_it_compiles_and_verifies(attempt: Attempt, cli: Attempt, tmp_path: Path, name: str) -> None:
    ended = attempt("--runtime", "litert", model=save(COMPILED[name](), tmp_path / "m.onnx"), calib="random")
    assert ended.code in (0, 1), ended
    assert cli("verify", tmp_path / "out" / "bundle").code == 0


def test_strict_int8_leaves_nothing_behind(attempt: Attempt, tmp_path: Path) -> None:
    path = save(model(NODE("MatMul", ["x", "w"], ["m"]), NODE("Erf", ["m"], ["y"]), w=WEIGHT), tmp_path / "m.onnx")
    refused(attempt("--runtime", "litert", "--strict-int8", model=path, calib="random"), "DS202", "Erf")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_disk_that_fills_up_at_the_artifact(
    attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/dev/full` takes the place of the file when that is opened to be written."""
    opened = io.open

    def full(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        is_artifact = isinstance(file, str | os.PathLike) and Path(file).name == "model.tflite"
        return opened("/dev/full" if is_artifact and mode.startswith("w") else file, mode, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("io.open", full)
        patched.setattr("builtins.open", full)
        ended = attempt("--runtime", "litert")
    refused(ended, "DS802", "No space left on device")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    folder = tmp_path_factory.mktemp("litert") / "bundle"
    dsedge.compile(MODEL, target=BOARD, runtime="litert", calibration=CALIBRATION, output=folder)
    return folder


def broken(content: bytes) -> dict[str, bytes]:
    """Truncated, empty, another kind of file, or with bytes changed at either end, where its tables lie."""
    found = {"empty": b"", "one byte": b"\0", "half": content[: len(content) // 2], "ONNX": MODEL.read_bytes()}
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, 400, 4), *rng.integers(len(content) - 2000, len(content), 4)]:
        changed = bytearray(content)
        changed[place] ^= 0x55
        found[f"byte {place}"] = bytes(changed)
    return found


VERIFY = """
import sys
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle
for path in sys.argv[1:]:
    try:
        verify_bundle(Bundle(path))
        print("fine")
    except DsedgeError as error:
        print(error.code)
"""


def test_a_file_that_was_changed(written: Path, tmp_path: Path) -> None:
    """Without, and with the hash that belongs to it, as one would who wants to go unnoticed; no process may end."""
    content = (written / "model.tflite").read_bytes()
    bundles, expected = [], []
    for name, changed in broken(content).items():
        for hidden in (False, True):
            bundle = Path(shutil.copytree(written, tmp_path / str(len(bundles))))
            (bundle / "model.tflite").write_bytes(changed)
            if hidden:
                manifest = json.loads((bundle / "manifest.json").read_text())
                info = next(info for info in manifest["files"] if info["role"] == "model")
                info |= {"sha256": hashlib.sha256(changed).hexdigest(), "bytes": len(changed)}
                (bundle / "manifest.json").write_text(json.dumps(manifest))
            bundles.append(str(bundle))
            flipped = ("DS501", "DS502", "fine") if name.startswith("byte") else ("DS502",)
            expected.append(flipped if hidden else ("DS803",))
    script = [sys.executable, "-c", VERIFY, *bundles]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120, env=environment())
    assert done.returncode == 0, done
    found = done.stdout.split()
    assert len(found) == len(expected)
    assert all(code in codes for code, codes in zip(found, expected, strict=True)), found
