"""Weights are not inputs."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from dsedge.passes.base import Pass

# From this version of the file format on, an initializer needs no input of the same name.
_IR_VERSION = 4


class InitializersFromInputs(Pass):
    """Takes initializers off the list of graph inputs.

    What:
        A graph input that has a default value becomes a plain initializer.
    Why:
        Before IR version 4 every weight had to be listed as an input too, and such a weight may be overridden by the
        caller, so it is not a constant and nothing can be folded or quantized.
    When not:
        Files of IR version 4 and later that list none. An input with a default that the caller was meant to override
        becomes fixed at the default.
    Cost:
        Linear in inputs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Drops inputs that are initializers."""
        result = common.RemoveInitializersFromInputsPass()(model)
        if result.modified:
            model.ir_version = max(model.ir_version, _IR_VERSION)
        return result
