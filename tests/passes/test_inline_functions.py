from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from dsedge.passes import discover

FUNCTIONS = """
<ir_version: 9, opset_import: ["": 20, "local": 1, "com.microsoft": 1]>
g (float[2] x) => (float[2] y) { a = local.twice(x)  b = local.twice(a)  y = com.microsoft.QuickGelu(b) }
<domain: "local", opset_import: ["": 20]> twice (v) => (w) { w = Add(v, v) }
<domain: "com.microsoft", opset_import: ["": 20]> QuickGelu (v) => (w) { s = Sigmoid(v)  w = Mul(v, s) }
"""


def test_functions_are_inlined_unless_the_runtime_has_the_operator():
    proto = onnx.parser.parse_model(FUNCTIONS)
    model = ir.from_proto(proto)
    assert discover()["inline-functions"]()(model).modified
    assert [(node.domain, node.op_type) for node in model.graph] == [
        ("", "Add"),
        ("", "Add"),
        ("com.microsoft", "QuickGelu"),
    ]
    assert not model.functions
    x = np.float32([1, -2])
    before, after = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (proto, ir.to_proto(model))
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)
