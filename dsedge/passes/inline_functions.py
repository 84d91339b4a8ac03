"""Model-local functions."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxruntime.capi import _pybind_state as ort

from dsedge.passes.base import Pass


class InlineFunctions(Pass):
    """Replaces calls of model-local functions by their bodies.

    What:
        Every call of a function that the file defines is replaced by the nodes of that function.
    Why:
        Contracts, folding and quantization are written for operators; inside of a function they see nothing.
    When not:
        ONNX Runtime has an operator of the function's domain and name: it prefers its own kernel over the body, so
        the call stays and the body is dropped. A body of another opset than the model's is an error.
    Cost:
        The graph grows by the body at each call; weights are not copied.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inlines functions that the runtime does not know as operators."""
        known = {(schema.domain, schema.name) for schema in ort.get_all_operator_schema()} if model.functions else set()
        result = common.InlinePass(criteria=lambda function: (function.domain, function.name) not in known)(model)
        left = bool(model.functions)
        model.functions.clear()
        return ir.passes.PassResult(model, result.modified or left)
