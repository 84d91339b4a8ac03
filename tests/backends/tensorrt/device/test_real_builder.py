"""build.py's calls on NVIDIA's own bindings: tensorrt-rtx has the builder of TensorRT 11, and needs no GPU to build."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import samples
from graphs import residual
from onnx import TensorProto, helper, numpy_helper

import dsedge
from dsedge.backends.tensorrt.settings import SCRIPTS
from dsedge.frontend.shapes import fix_shapes
from dsedge.passes.normalize import normalize
from tests.backends.tensorrt.device.bundles import device, python

SCRIPT = """
import json, sys
import tensorrt_rtx as trt
import trt_builder as build
from trt_files import Refused, publish
import pathlib
graph = {"typing": "strong", "precision": "int8", "floats": False}
profile = {"min": [1, 16, 8, 8], "opt": [2, 16, 8, 8], "max": [4, 16, 8, 8]}
settings = {"sparsity": True, "dla": None, "tf32": False, "workspace_mib": 256}
settings["profiles"] = {"x": profile}
logger = build._logger(trt)
trt.init_libnvinfer_plugins(logger, "")
builder = trt.Builder(logger)
build.check_dla(builder, settings)
network = builder.create_network(build.network_flags(trt, graph))
parsed = trt.OnnxParser(network, logger).parse_from_file("MODEL")
config, flags, _ = build.configure(trt, builder, network, settings, graph)
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
plan = builder.build_serialized_network(network, config)
publish({pathlib.Path("MODEL.plan"): bytes(plan)})
print(json.dumps([parsed, flags, config.num_optimization_profiles, config.get_flag(trt.BuilderFlag.TF32)]))
for changed in (dict(settings, profiles={}), dict(settings, dla=0)):
    try:
        build.check_dla(builder, changed)
        build.configure(trt, builder, network, changed, graph)
    except Refused as error:
        print(error)
"""
NODES = """
import collections, json, sys
import tensorrt_rtx as trt
import trt_builder
logger = trt.Logger(trt.Logger.ERROR)
network = trt.Builder(logger).create_network(0)
assert trt.OnnxParser(network, logger).parse_from_file(sys.argv[1])
layers = [network.get_layer(i) for i in range(network.num_layers)]
print(json.dumps(collections.Counter(name for layer in layers for name in trt_builder.nodes_of(layer))))
"""
FLOATS = """
import re, sys
import tensorrt_rtx as trt
from trt_floats import to_floats

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.layers = []

    def log(self, severity, message):
        if message.startswith("Layers:"):
            self.layers = [line for line in message.splitlines() if ", LayerType: " in line]

for path in sys.argv[1:]:
    for floats in (False, True):
        logger = Logger()
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert trt.OnnxParser(network, logger).parse_from_file(path)
        held = to_floats(trt, network) if floats else []
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM80, 0)
        assert builder.build_serialized_network(network, config) is not None
        kinds = [re.search(r"LayerType: (\\w+)", line)[1] for line in logger.layers]
        codes = sum("Int8" in line for line in logger.layers)
        print(len(kinds), kinds.count("correlation"), codes)
"""


needs_bindings = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


@needs_bindings
def test_the_runtime_has_what_the_engine_is_run_by(tmp_path: Path) -> None:
    text = SCRIPTS["trt_runtime.py"].read_text()
    used = {kind: sorted(set(re.findall(rf"self\._{kind}\.(\w+)", text))) for kind in ("engine", "context")}
    assert len(used["engine"]) > 5 and len(used["context"]) > 4
    names = {"ICudaEngine": used["engine"], "IExecutionContext": used["context"]}
    code = (
        f"import tensorrt_rtx as t; print([n for c, a in {names}.items() for n in a if not hasattr(getattr(t, c), n)])"
    )
    assert python(code, device(tmp_path)).stdout.strip() == "[]"


@needs_bindings
def test_the_builder_takes_what_build_py_says(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(16, 16, 3, 3)).astype(np.float32)
    ins, outs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16, 8, 8]) for name in "xy")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    made = helper.make_graph([node], "g", [ins], [outs], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)])
    model.ir_version = 9
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    ended = python(SCRIPT.replace("MODEL", str(path)), device(tmp_path))
    said, *refused = ended.stdout.splitlines()
    assert json.loads(said) == [True, ["SPARSE_WEIGHTS"], 1, False], ended.stderr
    assert refused[0] == "no profile for the open axes of x: compile with --shape"
    assert refused[1].startswith("there is no DLA core 0: this machine has no DLA")
    assert Path(f"{path}.plan").stat().st_size > 1000


@needs_bindings
def test_all_layers_of_a_node_are_found_by_its_name(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    consts = {"w": (4, 8), "b": (8,), "v": (8, 8), "c": (8,)}
    weights = [numpy_helper.from_array(generator.normal(size=s).astype(np.float32), n) for n, s in consts.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm"),
        helper.make_node("Gemm", ["h", "v", "c"], ["y"], "gemm_1"),
    ]
    ins, outs = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, s]) for n, s in (("x", 4), ("y", 8)))
    graph = helper.make_graph(nodes, "g", [ins], [outs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "model.onnx")
    ended = python(NODES, device(tmp_path), None, str(tmp_path / "model.onnx"))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["gemm"] == found["gemm_1"] and found["gemm"] >= 2, "a product and an addition"


@needs_bindings
def test_without_its_quantizers_a_graph_is_built_as_the_float_graph_is(tmp_path: Path) -> None:
    model = fix_shapes(residual(), {"x": "1,8,12,12"})
    data = [batch.feeds for batch in samples(model, 4)]
    folder = dsedge.compile(model, target="a100", calibration=data, output=tmp_path / "out").path
    floats = tmp_path / "float.onnx"
    ir.save(normalize(model)[0].graph, floats)
    files = [folder / "model.fp16.onnx", folder / "model.fp32.onnx", floats]
    ended = python(FLOATS, device(tmp_path), None, *map(str, files))
    assert ended.returncode == 0, ended.stderr
    half, half_floats, whole, whole_floats, _, wanted = (
        tuple(map(int, line.split())) for line in ended.stdout.splitlines()
    )
    assert half[2] >= 5 and whole[2] >= 5, "with them convolutions run in INT8"
    assert whole_floats == wanted and wanted[1:] == (5, 0)
    assert half_floats[1:] == (5, 0) and half_floats[0] <= wanted[0] + 1, "a cast of the input"
