"""Audit: load the artifact, read back the graph that the runtime really executes, and compare it with the plan.

ONNX Runtime's optimizer turns Q/DQ patterns into INT8 kernels, or leaves the operator in float with the conversions
around it, without a word. What it made of the graph is only to be seen in the optimized graph.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact, Audit
from dsedge.quant.plan import QuantPlan
from dsedge.target import Target

_INT4_KERNELS = ("MatMulNBits", "GatherBlockQuantized")
_INT8_KERNELS = re.compile(r"QLinear\w+|QGemm|QAttention|ConvInteger\w*|MatMulInteger\w*|DynamicQuantize\w+")
_OF_OPTIMIZER = re.compile(r"^fused |(/\w+Fusion/)?(_token_\d+)?$|_nchwc$")


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Find what runs in INT8.

    Args:
        artifact: from `build`.
        plan: what was asked for.
        target: where this machine has its instruction set, what the optimizer does here is what it does there. For an
            ARM board on another machine it is told to fuse s8 patterns as it does on ARM. That finds patterns that do
            not match, but it is no audit, because which kernels exist is decided on the board.

    Returns:
        The counts, and every node that was planned as INT8 or INT4 and runs in float.
    """
    planned = [n for n in plan.nodes.values() if n.precision in ("int8", "int8_dynamic")]
    floats = sum(n.precision in ("float", "fp16") for n in plan.nodes.values())
    graph = _executed(artifact.main, s8_patterns=target.architecture != "x86_64")
    unmatched: dict[str, str] = {}
    known = {n.result: n for n in planned} | {n.name: n for n in planned}  # NCHWc kernels are named after their result
    for node in graph:
        found = known.get(plain_name(node))
        if found and not _is_int8(node) and not _moves_codes(node):
            head = found.head or found.name
            unmatched[head] = f"ONNX Runtime left it in float as {node.op_type}: its Q/DQ pattern did not match"
    blocks = [n.name for n in plan.nodes.values() if n.precision == "int4"]
    found_blocks = {node.name for node in graph if node.op_type in _INT4_KERNELS}
    unmatched |= {n: "ONNX Runtime runs no INT4 operator in its place" for n in blocks if n not in found_blocks}
    kept = {n.result: n for n in plan.nodes.values() if n.precision == "float"}
    kept |= {n.name: n for n in kept.values()}
    silent = sorted({f.name for node in graph if _is_int8(node) and (f := kept.get(plain_name(node)))})
    stray = sum(node.op_type in ("DequantizeLinear", "Cast") and _is_constant(node) for node in graph)
    lost = {n.name for n in planned if n.name in unmatched or n.head in unmatched}
    matches, why = target.matches_host()
    int8_ops, int4_ops = len(planned) - len(lost), len(blocks) - len(unmatched.keys() & set(blocks))
    counts = f"operators in INT8: {int8_ops}" + (f", on INT4 weights: {int4_ops}" if blocks else "")
    found_here = f"the Q/DQ patterns of {int8_ops + int4_ops} operators match"
    summary = counts if matches else f"not audited here: {why}; {found_here}"
    if unmatched:
        summary += f"; {len(unmatched)} planned in {'INT8 or INT4' if blocks else 'INT8'} run in float"
    if silent:
        summary += f"; {len(silent)} planned in float run in INT8 all the same: {', '.join(silent[:5])}"
    if stray:
        summary += f"; {stray} weights are dequantized at every inference"
    floats += len(lost) + len(blocks) - int4_ops
    return Audit(matches, summary, int8_ops, floats, unmatched, int4_ops)


def _executed(artifact: Path, *, s8_patterns: bool) -> ir.Graph:
    """The optimized graph; with `s8_patterns` s8 activations are fused too, which x86 otherwise leaves in float."""
    from dsedge.session import open_session

    config = {"session.qdqisint8allowed": "1" if s8_patterns else "0"}
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(artifact, threads=1, save_optimized=optimized, config=config)
        return ir.load(optimized).graph


def plain_name(node: ir.Node) -> str:
    """The name that a node had before the optimizer fused it with others, or moved it to another layout."""
    return _OF_OPTIMIZER.sub("", node.name or "")


def _is_int8(node: ir.Node) -> bool:
    return _INT8_KERNELS.fullmatch(node.op_type) is not None


def _moves_codes(node: ir.Node) -> bool:
    """Whether the node's data is INT8 although its operator has no name of its own for it."""
    value = node.inputs[0] if node.inputs else None
    if value is not None and value.const_value is not None:
        return value.dtype in (ir.DataType.INT8, ir.DataType.UINT8)  # rows of a table
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "QuantizeLinear":
            return True
        if producer.op_type == "DequantizeLinear":
            return False
        if _is_int8(producer):
            return producer.op_type != "QGemm" or len(producer.inputs) > 7
        value = producer.inputs[0] if producer.inputs else None
    return False


def _is_constant(node: ir.Node) -> bool:
    return node.inputs[0] is not None and node.inputs[0].const_value is not None
