"""Model-local functions."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from onnxruntime.capi import _pybind_state as ort

from dsedge.errors import LoadError
from dsedge.passes.base import Pass


class InlineFunctions(Pass):
    """Replaces calls of model-local functions by their bodies.

    What:
        Every call of a function that the file defines is replaced by the nodes of that function.
    Why:
        Contracts, folding and quantization are written for operators; inside of a function they see nothing.
    When not:
        ONNX Runtime has an operator of the function's domain and name: it prefers its own kernel over the body, so
        the call stays and the body is dropped. A body of another opset than the model's is refused when one of its
        operators changed between the two.
    Cost:
        The graph grows by the body at each call; weights are not copied.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inlines functions that the runtime does not know as operators.

        Raises:
            LoadError: DS108, a body is of another opset and would mean something else at the model's.
        """
        for function in model.functions.values():
            _settle_opset(function, model)
        known = {(schema.domain, schema.name) for schema in ort.get_all_operator_schema()} if model.functions else set()
        result = common.InlinePass(criteria=lambda function: (function.domain, function.name) not in known)(model)
        left = bool(model.functions)
        model.functions.clear()
        return ir.passes.PassResult(model, result.modified or left)


def _settle_opset(function: ir.Function, model: ir.Model) -> None:
    """Lets a body import what the model imports, where that means the same."""
    for domain, version in list(function.opset_imports.items()):
        wanted = model.opset_imports.get(domain, version)
        if wanted == version:
            continue
        changed = [node.op_type for node in function.all_nodes() if node.domain == domain]
        changed = [op for op in changed if _since(op, version, domain) != _since(op, wanted, domain)]
        if changed:
            raise LoadError(
                "DS108",
                f"{changed[0]} in the function {function.name!r} is of opset {version}, and the model of {wanted}",
                hint="export the model and its functions with one opset",
            )
        function.opset_imports[domain] = wanted


def _since(op: str, version: int, domain: str) -> int | None:
    """The version that last changed an operator; None for one that onnx does not know, whose versions it ignores."""
    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None
