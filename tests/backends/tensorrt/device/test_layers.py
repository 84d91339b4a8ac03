"""Reading the inspector's JSON: names and types as TensorRT 8.5, 8.6 to 10, and 11 write them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dsedge.backends.tensorrt.settings import SCRIPTS


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layers = script(SCRIPTS["trt_layers.py"])


def layer(kind: str, reads: dict[str, str], name: str = "", metadata: str = "") -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Metadata": metadata, "Inputs": [{"Name": "x", **reads}]}


HALF, INT8 = {"Format/Datatype": "Half"}, {"Format/Datatype": "Int8"}


@pytest.mark.parametrize(
    ("made", "runs"),
    [
        # 8.5: the nodes in the name, the type in a sentence
        (
            layer(
                "CaskConvolution", {"Format/Datatype": "Four wide channel vectorized row major Int8 format"}, "w + /c"
            ),
            True,
        ),
        (layer("CaskConvolution", {"Format/Datatype": "Row major linear FP16 format"}, "w + /c + /relu"), False),
        (layer("CaskConvolution", INT8, "/c || /d"), True),
        # 8.6 to 10: the nodes in the metadata
        (layer("correlation", INT8, "fused", "[ONNX Layer: /b]\x1e[ONNX Layer: /c]"), True),
        (layer("correlation", INT8, "fused", "[ONNX Layer: /b]\x1f[ONNX Layer: /c]\x1f[ONNX Layer: /d]"), True),
        (layer("correlation", HALF, "fused", "[ONNX Layer: /b][ONNX Layer: /c]"), False),
        (layer("gemm", {"Format/Datatype": "UInt8"}, "fused", "[ONNX Layer: /c]"), False),
        # 11: the type in a field of its own
        (layer("gemm", {"Format": "Row major linear", "Datatype": "Int8"}, "fused", "[ONNX Layer: /c]"), True),
        (layer("gemm", {"Format": "Row major linear", "DataType": "Half"}, "fused", "[ONNX Layer: /c]"), False),
    ],
)
def test_a_node_is_int8_where_its_layer_reads_int8(made: dict[str, Any], runs: bool) -> None:
    codes, others, unknown = layers.coverage([made], ["/c"])
    assert not unknown and (codes == ["/c"]) is runs and (list(others) == ["/c"]) is not runs


def test_layers_around_a_kernel_do_not_count_for_it() -> None:
    dequantizes = layer("kgen", INT8, "around", "[ONNX Layer: /c]")
    kernel = layer("correlation", HALF, "conv", "[ONNX Layer: /c]")
    assert layers.coverage([dequantizes, kernel], ["/c"]) == ([], {"/c": "computed in float by correlation"}, {})


def test_a_residual_in_int8_makes_no_product_int8() -> None:
    made = {**layer("CaskConvolution", HALF, "/c + /add"), "Inputs": [HALF, INT8]}
    assert layers.coverage([made], ["/c"]) == ([], {"/c": "computed in float by caskconvolution"}, {})


@pytest.mark.parametrize(
    "made",
    [
        layer("Myelin", INT8, "fused", "[ONNX Layer: /b]\x1e[ONNX Layer: /c]"),
        layer("Myelin", HALF, "{ForeignNode[/a.../d]}"),
        layer("", INT8, "{ForeignNode[/a.../d]}"),
    ],
)
def test_of_a_subgraph_that_is_one_layer_nothing_can_be_told(made: dict[str, Any]) -> None:
    found = layers.coverage([made, layer("CaskConvolution", INT8, "/e")], ["/c", "/e"])
    assert found[:2] == (["/e"], {}) and "no more than its ends" in found[2]["/c"]
    told = layers.told({"int8": found[0], "unknown": found[2]}, ["/c", "/e"])
    assert told == "1 of 2 planned nodes run in INT8, of 1 it cannot be told"


def test_a_name_that_begins_another_is_not_taken_for_it() -> None:
    found, others, _ = layers.coverage(
        [layer("gemm", INT8, "g", "[ONNX Layer: /c/1]"), layer("gemm", INT8, "/c2 + /c3")], ["/c"]
    )
    assert found == [] and "named by none of the engine's layers" in others["/c"]


def test_names_with_brackets_are_read_whole() -> None:
    made = layer("gemm", INT8, "g", "[ONNX Layer: a[0]]\x1e[ONNX Layer: b]")
    assert layers.coverage([made], ["a[0]", "b"])[0] == ["a[0]", "b"]


def test_what_falls_back_from_the_dla_is_counted() -> None:
    made = [layer("DLA", INT8), layer("Reformat", INT8), layer("CaskConvolution", INT8), layer("DLA", INT8)]
    assert layers.dla(made) == {"on_dla": 2, "on_gpu": 1}


@pytest.mark.parametrize("text", ['{"Layers": ["conv", "relu"]}', "{}", "[]", "not json"])
def test_an_engine_without_details_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        layers.read_layers(text)
    assert layers.read_layers(json.dumps({"Layers": [], "I/O Tensors": []})) == []
