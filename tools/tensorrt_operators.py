"""Finds out which ONNX operators NVIDIA's parser and compiler take: dsedge/backends/tensorrt/operators.toml.

    python tools/tensorrt_operators.py

Needs the extra `tensorrt-rtx`, and no GPU; takes some minutes. Every operator of ONNX's own domain is looked up in the
parser's list. Of each that is in it the models that onnx tests runtimes with are built for compute capability 8.0, with
all inputs but the first made constants, and optional outputs left out, until one is accepted; where none is, the
operator is kept apart with what was said of the last one. Models of float32 come first. Operators that onnx has no
examples of are taken as the parser lists them, and so are those that the lint has rules of its own for.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from dsedge.backends.tensorrt import oracle

CAPABILITY = "8.0"
TRIES = 20
RULED = ("QuantizeLinear", "DequantizeLinear", "Loop")
FILE = Path(__file__).parents[1] / "dsedge" / "backends" / "tensorrt" / "operators.toml"


def listed() -> dict[str, bool]:
    """Operator of the default domain -> whether the parser has an importer for it."""
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
    return {name: parser.supports_operator(name) for name in names}


def examples() -> dict[str, list[onnx.ModelProto]]:
    """Operator -> models of that one node, inputs but the first made constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    found = defaultdict(list)
    for case in cases:
        if case.model is None or len(case.model.graph.node) != 1 or case.model.graph.node[0].domain:
            continue
        graph = case.model.graph
        given = case.data_sets[0][0] if case.data_sets else []
        for i, (value, data) in list(enumerate(zip(graph.input, given, strict=False))):
            if hasattr(data, "dtype") and (data.dtype.kind in "ib" or (i and data.dtype.kind == "f")):
                graph.initializer.append(numpy_helper.from_array(data, value.name))
                graph.input.remove(value)
        needed = max(1, onnx.defs.get_schema(graph.node[0].op_type).min_output)
        del graph.output[needed:], graph.node[0].output[needed:]
        found[graph.node[0].op_type].append(case.model)
    return found


def refusal(models: list[onnx.ModelProto]) -> str:
    """Why none of some models is built, "" where one is."""
    reason = ""
    for model in sorted(models, key=_unlike)[:TRIES]:
        try:
            verdict = oracle.check(ir.from_proto(model), CAPABILITY)
        except Exception as error:  # a model that onnx_ir does not read: another one may do
            reason = f"{type(error).__name__}: {error}"
            continue
        if verdict.accepted:
            return ""
        reason = verdict.errors[0].reason if verdict.errors else verdict.failure
    return re.sub(r"\s+", " ", reason)[:200]


def _unlike(model: onnx.ModelProto) -> tuple[bool, int]:
    """How far a model is from the plainest: whether it has no float32 input, and how many inputs its node has."""
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    return onnx.TensorProto.FLOAT not in kinds, len(model.graph.node[0].input)


def main() -> None:
    """Try all, write the file."""
    known, models = listed(), examples()
    tried = [name for name, there in known.items() if there and name in models and name not in RULED]
    unbuilt = {name: why for name in tried if (why := refusal(models[name]))}
    lines = [
        "# Which operators of ONNX's own domain NVIDIA's parser and compiler take.",
        "# Written by tools/tensorrt_operators.py; do not edit.",
        f'compiler = "tensorrt-rtx {oracle.version()}"',
        f'onnx = "{onnx.__version__}"',
        f'compute_capability = "{CAPABILITY}"',
        "supported = [",
        *(f'    "{name}",' for name, there in known.items() if there and name not in unbuilt),
        "]",
        "unsupported = [  # the parser has no importer",
        *(f'    "{name}",' for name, there in known.items() if not there),
        "]",
        "",
        "[unbuilt] # the parser has an importer, but none of onnx's examples was built; what was said of the last one",
        *(f"{name} = {json.dumps(why)}" for name, why in unbuilt.items()),
    ]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {sum(known.values()) - len(unbuilt)} of {len(known)} operators, {len(unbuilt)} unbuilt")


if __name__ == "__main__":
    main()
