from __future__ import annotations

import json

from flow import quantized
from graphs import concat, lstm


def test_a_plan_is_plain_data() -> None:
    m = quantized(concat())
    data = json.loads(json.dumps(m.plan.to_json(), allow_nan=False))
    assert data["contract"] == "onnxruntime/x86-vnni"
    assert [n["name"] for n in data["nodes"]] == list(m.plan.nodes)
    conv = next(n for n in data["nodes"] if n["name"] == "Conv_0")
    assert conv == {
        "name": "Conv_0",
        "op": "Conv",
        "precision": "int8",
        "reason": m.reason("Conv_0"),
        "fused_into": None,
        "inputs": [0],
        "weights": [1],
        "weight_scales": conv["weight_scales"],
        "output": True,
        "reads": ["x"],
        "result": "conv_0",
    }
    (weight,), params = conv["weight_scales"], m.plan.nodes["Conv_0"].weight_qparams[1]
    assert (weight["dtype"], weight["axis"], weight["channels"]) == ("int8", 0, params.scale.size)
    assert (weight["least"], weight["greatest"]) == (params.scale.min(), params.scale.max())
    groups = {v["name"]: v["group"] for v in data["values"]}
    assert groups["relu_1"] == groups["concat_6"] != groups["x"]
    for value in data["values"]:
        params = m.plan.values[value["name"]].qparams
        assert params is not None
        assert (value["scale"], value["zero_point"], value["dtype"]) == (params.scale, params.zero_point, "uint8")


def test_quantized() -> None:
    assert quantized(lstm()).plan.quantized
    assert not quantized(concat(), lifted={f"Conv_{i}": "a test" for i in (0, 2, 4, 7)}).plan.quantized
