"""Audit: which operators NVIDIA's compiler runs on codes, read from what it built for a GPU like the target's.

Only TensorRT-RTX can be asked without a GPU. It is not the target's TensorRT and what it built is no engine of the
target: the summary says so, and status is `checked` at most.
"""

from __future__ import annotations

from dsedge.backends.base import Audit
from dsedge.backends.tensorrt.oracle import PACKAGE, Verdict, coverage
from dsedge.backends.tensorrt.quantizers import PRODUCTS
from dsedge.quant.plan import NodePlan, QuantPlan

_UNTOLD = {"7.5": ("Conv", "ConvTranspose")}
"""What was built for -> the operators whose INT8 kernels TensorRT has there and this compiler has not."""


def audit(verdict: Verdict, plan: QuantPlan, file: str) -> Audit:
    """Compare what was planned with what was built.

    Activations and sums are computed in float inside of the kernels around them, and are counted with the plan: what
    the compiler can lose are products. A pooling over which it moves quantizers is planned in float, and said.

    Args:
        verdict: of the graph.
        plan: what was asked for.
        file: name of the graph, for people.

    Returns:
        The counts, every product that was planned on codes and runs in float, and for each operator the kinds of the
        kernels that it became part of. Not performed where nothing was built, or where what was built does not tell of
        all products: for 7.5 this compiler says nothing about INT8 convolutions. Nor where no product was planned on
        codes, although something else was. The counts are then the plan's.
    """
    who = f"{PACKAGE} {verdict.version} builds {file} for compute capability {verdict.aim.built_for}"
    note = f": {verdict.aim.note}" if verdict.aim.note else ""
    planned = [n for n in plan.nodes.values() if n.precision in ("int8", "int4")]
    products = [n for n in planned if n.head is None and n.op_type in PRODUCTS]
    untold = _UNTOLD.get(verdict.aim.built_for, ())
    asked = [n.name for n in products if n.op_type not in untold]
    if not verdict.accepted:
        return as_planned(plan, f"{PACKAGE} {verdict.version} does not build {file}: {refusal(verdict)}{note}")
    if planned and not products:
        return as_planned(plan, f"what is planned on codes holds no product that could be found in the engine{note}")
    on_codes, others = coverage(verdict, asked)
    told = f"{len(on_codes)} of {len(asked)} products run on codes"
    if len(asked) < len(products):
        rest = f"of {len(products) - len(asked)} products nothing can be told{note}"
        return as_planned(plan, f"{rest}; {told} of the rest, as {who}" if asked else rest)
    lost = [n for n in planned if n.name in others or n.head in others]
    summary = f"{told}, as {who}" if planned else who
    pools = [n for n in plan.nodes.values() if n.precision == "float" and _pools_codes(verdict, n)]
    summary += f"; planned in float and on codes all the same: {', '.join(n.name for n in pools[:5])}" if pools else ""
    summary += f"; not an engine of the target{note}"
    lowered = {
        n.name: ", ".join(sorted({layer.kind for layer in verdict.of(n.name)})) or "nothing"
        for n in plan.nodes.values()
    }
    int8, int4 = _counts([n for n in planned if n not in lost])
    float_ops = _floats(plan) + len(lost)
    bf16 = sum(n.precision == "bf16" for n in plan.nodes.values())
    return Audit(True, summary, int8, float_ops, others, int4, bf16, lowered if planned else {})


def as_planned(plan: QuantPlan, reason: str) -> Audit:
    """The plan's counts, and why nothing could be found out."""
    int8, int4 = _counts(list(plan.nodes.values()))
    bf16 = sum(n.precision == "bf16" for n in plan.nodes.values())
    return Audit(False, f"not audited here: {reason}", int8, _floats(plan), {}, int4, bf16)


def refusal(verdict: Verdict) -> str:
    """Why nothing was built."""
    if verdict.errors:
        return f"the parser refuses {verdict.errors[0].node or 'the model'}: {verdict.errors[0].reason[:200]}"
    return verdict.failure[:200]


def _floats(plan: QuantPlan) -> int:
    return sum(n.precision in ("float", "fp16") for n in plan.nodes.values())


def _counts(nodes: list[NodePlan]) -> tuple[int, int]:
    return sum(n.precision == "int8" for n in nodes), sum(n.precision == "int4" for n in nodes)


def _pools_codes(verdict: Verdict, node: NodePlan) -> bool:
    """Whether the compiler moved a quantizer over a pooling."""
    return any(layer.kind == "maxpool" and layer.on_codes for layer in verdict.of(node.name))
