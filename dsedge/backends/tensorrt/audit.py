"""Audit: which operators NVIDIA's compiler runs on codes, read from what it built for a GPU like the target's.

Only TensorRT-RTX can be asked without a GPU. It is not the target's TensorRT and what it built is no engine of the
target: the summary says so, and status is `checked` at most.
"""

from __future__ import annotations

from dsedge.backends.base import Audit
from dsedge.backends.tensorrt.oracle import PACKAGE, Verdict, coverage
from dsedge.quant.plan import NodePlan, QuantPlan

_UNTOLD = {"7.5": ("Conv", "ConvTranspose")}
"""What was built for -> the operators whose INT8 kernels TensorRT has there and this compiler has not."""


def audit(verdict: Verdict, plan: QuantPlan) -> Audit:
    """Compare what was planned with what was built.

    Activations and sums are computed in float inside of the kernels around them, and are counted with the plan: what
    the compiler can lose are products and poolings.

    Args:
        verdict: of the Q/DQ graph.
        plan: what was asked for.

    Returns:
        The counts, and every product that was planned on codes and runs in float. Not performed where nothing was
        built, or nothing that was built tells: for 7.5 this compiler says nothing about INT8 convolutions, which are
        then counted with the plan.
    """
    planned = [n for n in plan.nodes.values() if n.precision in ("int8", "int4")]
    floats = sum(n.precision in ("float", "fp16") for n in plan.nodes.values())
    who = f"{PACKAGE} {verdict.version}, for compute capability {verdict.aim.built_for}"
    int8, int4 = _counts(planned)
    untold = _UNTOLD.get(verdict.aim.built_for, ())
    asked = [n.name for n in planned if n.head is None and _computes(n) and n.op_type not in untold]
    if reason := _refusal(verdict) or ("" if asked else verdict.aim.note or "no product is planned on codes"):
        return Audit(False, f"not audited here: {reason} ({who})", int8, floats, {}, int4_ops=int4)
    on_codes, others = coverage(verdict, asked)
    lost = [n for n in planned if n.name in others or n.head in others]
    summary = f"{len(on_codes)} of {len(on_codes) + len(others)} products run on codes, as {who} builds them"
    summary += "; not an engine of the target" + (f": {verdict.aim.note}" if verdict.aim.note else "")
    lowered = {name: ", ".join(sorted({layer.kind for layer in verdict.of(name)})) for name in on_codes}
    int8, int4 = _counts([n for n in planned if n not in lost])
    return Audit(True, summary, int8, floats + len(lost), others, int4_ops=int4, lowered=lowered)


def _counts(nodes: list[NodePlan]) -> tuple[int, int]:
    return sum(n.precision == "int8" for n in nodes), sum(n.precision == "int4" for n in nodes)


def _refusal(verdict: Verdict) -> str:
    """Why nothing was built, "" where something was."""
    if verdict.errors:
        return f"the parser refuses {verdict.errors[0].node or 'the model'}: {verdict.errors[0].reason[:200]}"
    return verdict.failure[:200]


def _computes(node: NodePlan) -> bool:
    """Whether a node has a kernel of its own: it has weights, or multiplies two activations."""
    return bool(node.weights) or node.op_type == "MatMul"
