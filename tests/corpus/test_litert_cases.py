"""onnx's own operator test cases through the LiteRT emitter: right numbers, or a reason; never an end of the process.

Each runs as it is, with its integers as constants, with all but its first input as constants, and between Q/DQ pairs:
there the reference is ONNX Runtime, which executes the same graph node by node.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.support import unsupported
from dsedge.errors import DsedgeError
from dsedge.frontend.onnx import from_proto
from dsedge.passes.normalize import normalize
from dsedge.verify import predictor
from tests.backends.litert.harness import affine, interpreter

EVERY, TIMEOUT = 13, 120.0
"""Which part of the cases, and seconds for all of them."""
NEWEST = 25
UNCLEAR = ("test_resize_downsample_scales_linear_align_corners",)
"""Cases that ONNX Runtime answers otherwise than onnx expects, and so does TFLite."""

Feeds = dict[str, np.ndarray]


def cases() -> Iterator[tuple[str, onnx.ModelProto, Feeds, list[Any], float]]:
    """Name, model, inputs, expected outputs and relative tolerance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = {case.name: case for case in collect_testcases(None) if case.model is not None}
    names = sorted(name for name in found if "expanded" not in name and name not in UNCLEAR)
    for name in names[::EVERY]:
        case = found[name]
        inputs, outputs = case.data_sets[0]
        arrays = [np.asarray(a) if np.isscalar(a) else a for a in inputs]
        newest = max((o.version for o in case.model.opset_import if not o.domain), default=NEWEST)
        if newest <= NEWEST and all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in arrays):
            feeds = dict(zip((i.name for i in case.model.graph.input), arrays, strict=False))
            yield name, case.model, feeds, outputs, max(case.rtol or 0.0, 1e-3)


def frozen(model: onnx.ModelProto, feeds: Feeds, kinds: str) -> tuple[onnx.ModelProto, Feeds]:
    """With the inputs behind the first as constants that are of these kinds of numbers."""
    copied = onnx.ModelProto.FromString(model.SerializeToString())
    graph = copied.graph
    constants = [value for value in list(graph.input)[1:] if feeds[value.name].dtype.kind in kinds]
    for value in constants:
        graph.input.remove(value)
        graph.initializer.append(numpy_helper.from_array(feeds[value.name], value.name))
    return copied, {value.name: feeds[value.name] for value in graph.input}


def with_pairs(model: onnx.ModelProto, feeds: Feeds, outputs: list[Any]) -> tuple[onnx.ModelProto, float] | None:
    """With a Q/DQ pair behind each float input and before each float output, and the greatest scale of an output."""
    copied = onnx.ModelProto.FromString(model.SerializeToString())
    graph, before, after, step = copied.graph, [], [], 0.0
    bodies = any(a.HasField("g") for node in graph.node for a in node.attribute)
    if copied.opset_import[0].version < 13 or bodies:
        return None

    def pair(source: str, target: str, array: np.ndarray, into: list[onnx.NodeProto]) -> float:
        numbers = array[np.isfinite(array)]
        scale, zero = affine(float(numbers.min(initial=0)), float(numbers.max(initial=0)))
        names = [f"{target}_scale", f"{target}_zero"]
        for name, value in zip(names, (np.float32(scale), np.int8(zero)), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        into.append(helper.make_node("QuantizeLinear", [source, *names], [f"{target}_codes"], name=f"{target}_q"))
        into.append(helper.make_node("DequantizeLinear", [f"{target}_codes", *names], [target], name=f"{target}_dq"))
        return scale

    renamed = {}
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            renamed[value.name] = f"{value.name}_real"
            pair(value.name, renamed[value.name], feeds[value.name], before)
    for value, array in zip(graph.output, outputs, strict=True):
        if isinstance(array, np.ndarray) and array.dtype == np.float32 and array.size and np.isfinite(array).all():
            step = max(step, pair(f"{value.name}_real", value.name, array, after))
            renamed[value.name] = f"{value.name}_real"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return (copied, step) if before and after else None


def outcome(model: onnx.ModelProto, feeds: Feeds, expected: list[Any] | None, rtol: float, atol: float) -> str:
    """ "right", "refused", or what is wrong; the reference is the Q/DQ graph's execution when nothing is expected."""
    try:
        source = from_proto(model, "case", "case.onnx", "0", folder=None)
        refused = unsupported(source.graph)
        graph = normalize(source)[0].graph
        content = emit(graph)[0] if not refused else b""
    except DsedgeError as error:
        return "refused" if error.code != "DS401" else f"could be written, it said, and: {error}"
    if refused:
        return "refused" if all(finding.reason for finding in refused) else "refused without a reason"
    if expected is None:
        try:
            expected = predictor(ir.from_proto(model), optimize=False)(feeds)
        except DsedgeError:
            return "refused"  # by the reference
    found = interpreter(content)({name: feeds[name] for name in (spec.name for spec in source.inputs)})
    for value, other in zip(model.graph.output, expected, strict=True):
        mine, wanted = found[value.name], np.asarray(other)
        if mine.shape != wanted.shape or mine.dtype != wanted.dtype:
            return f"gives {mine.dtype}{mine.shape}, not {wanted.dtype}{wanted.shape}"
        if not np.allclose(mine, wanted, rtol=rtol, atol=atol, equal_nan=True):
            return f"is off by {np.max(np.abs(mine.astype(np.float64) - wanted)):.3g}"
    return "right"


def walk(connection: Connection, pairs: bool) -> None:
    """Tell the parent each case before it is begun, and how it ended."""
    warnings.simplefilter("ignore")
    for name, model, feeds, outputs, rtol in cases():
        for kinds in ("", "iub", "fiub"):
            copied, fed = frozen(model, feeds, kinds)
            label = f"{name} with {len(fed)} inputs"
            quantized = with_pairs(copied, fed, outputs) if pairs else None
            if (pairs and quantized is None) or (kinds and len(fed) == len(feeds)):
                continue
            connection.send((label, None))
            try:
                if quantized is not None:
                    ended = outcome(quantized[0], fed, None, 0.0, 1.001 * quantized[1])
                else:
                    ended = outcome(copied, fed, outputs, rtol, 1e-5)
            except Exception as error:
                ended = f"{type(error).__name__}: {error}"
            connection.send((label, ended))
    connection.send(("", None))


@pytest.mark.parametrize("pairs", [False, True], ids=["float", "Q/DQ"])
def test_each_case_is_right_or_refused(pairs: bool) -> None:
    mine, other = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=walk, args=(other, pairs))
    process.start()
    other.close()
    found: dict[str, str] = {}
    label = "the first case"
    try:
        while label:
            assert mine.poll(TIMEOUT), f"{label} hangs"
            label, ended = mine.recv()
            if ended is not None:
                found[label] = ended
    except EOFError:
        found[label] = "ends the process"
    finally:
        process.kill()
        process.join()
    assert {name: ended for name, ended in found.items() if ended not in ("right", "refused")} == {}
    assert sum(ended == "right" for ended in found.values()) > len(found) / 4
