"""Comparisons, logic, choice and Cast."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.backends.litert.broadcasts import SHAPES, held_last
from tests.backends.litert.harness import check_float, check_int8, feeds_of, inferred, node, refused

COMPARISONS = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]


def arrays(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    """Random inputs; scalars too are arrays."""
    return [{name: np.asarray(x) for name, x in feeds.items()} for feeds in feeds_of(model)]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize("op", COMPARISONS)
def test_compares(op: str, dtype: type) -> None:
    """Of every type; equal values among them."""
    model = node(op, [(2, 3, 4), np.array([-1, 0, 1, 2], dtype)], dtype=dtype)
    check_float(model, [{"x0": np.round(feeds["x0"]).astype(dtype)} for feeds in feeds_of(model)])


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("op", ["Less", "Equal"])
def test_compares_with_broadcasting(op: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """As arithmetic does."""
    check_float(node(op, [first, second]))


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_logic(op: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Of booleans that broadcast."""
    model = node(op, [first, second], dtype=np.bool_)
    check_float(model, arrays(model))


def test_negation() -> None:
    """Of booleans."""
    check_float(node("Not", [(2, 3)], dtype=np.bool_))


@pytest.mark.parametrize("attributes", [{}, {"detect_negative": 0}, {"detect_positive": 0}], ids=str)
def test_infinities(attributes: dict[str, int]) -> None:
    """Of one sign or both."""
    values = np.array([[0, 1, np.inf, -np.inf, np.nan]], np.float32)
    check_float(node("IsInf", [(1, 5)], **attributes), [{"x0": values}])
    check_float(node("IsNaN", [(1, 5)]), [{"x0": values}])


def chosen(shapes: list[tuple[int, ...]], dtype: type = np.float32) -> onnx.ModelProto:
    """Where, of three inputs."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    kinds = [TensorProto.BOOL, kind, kind]
    fed = [helper.make_tensor_value_info(f"x{i}", kinds[i], shape) for i, shape in enumerate(shapes)]
    nodes = [helper.make_node("Where", ["x0", "x1", "x2"], ["y0"], name="n")]
    graph = helper.make_graph(nodes, "one", fed, [helper.make_empty_tensor_value_info("y0")])
    return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.int8, np.uint8])
def test_chooses_of_any_type(dtype: type) -> None:
    """Codes or numbers."""
    check_float(chosen([(2, 3, 4), (2, 3, 4), (4,)], dtype))


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_chooses_with_broadcasting(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Any of the three is the smaller one."""
    for shapes in ([first, second, ()], [second, first, first]):
        model = chosen(shapes)
        check_float(model, arrays(model))


def test_chooses_codes() -> None:
    """Of one scale, exactly; a mask of minus infinity is the least code."""
    model = node("Where", [np.arange(5) % 2 == 0, (2, 3, 4, 5), (2, 3, 4, 5)])
    assert "SELECT_V2" in check_int8(model, same=True, exact=1.0).ops
    masked = node("Where", [np.arange(5) % 2 == 0, (2, 3, 4, 5), np.array(-1e9, np.float32)])
    check_int8(masked, weights={2: None}, same=True, exact=1.0)


def converted(source: type, to: type) -> onnx.ModelProto:
    """Cast of what is fed."""
    return node("Cast", [(2, 3)], dtype=source, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))


TYPES = [np.float32, np.int32, np.int64, np.bool_, np.int8, np.uint8]


@pytest.mark.parametrize("source", TYPES)
@pytest.mark.parametrize("to", TYPES)
def test_casts(source: type, to: type) -> None:
    """From each type to each; real values are cut towards zero."""
    model = converted(source, to)
    low = 0.0 if to == np.uint8 else -120.0
    feeds = [{"x0": np.abs(f["x0"]) if to == np.uint8 else f["x0"]} for f in feeds_of(model, low=low, high=120.0)]
    found = check_float(model, feeds)
    assert found.ops == ([] if source == to else ["CAST"])


def test_refuses_other_types() -> None:
    """Types that no kernel has."""
    refused(converted(np.float32, np.float64), "for which TFLite has no kernels")
    refused(converted(np.float32, np.float16), "no kernel for float16")
    refused(node("Less", [(2,), (2,)], dtype=np.uint8), "no kernel for uint8")
    refused(node("IsInf", [(2,)], detect_positive=0, detect_negative=0), "looks for no infinity")


def test_compares_in_the_order_that_is_held() -> None:
    """Booleans keep the order too."""
    found = check_float(held_last(node("Greater", [(2, 3, 4, 5), np.zeros((3, 1, 1), np.float32)])))
    assert found.ops.count("TRANSPOSE") == 2
