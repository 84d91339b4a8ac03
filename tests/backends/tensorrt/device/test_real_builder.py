"""build.py's calls on NVIDIA's own bindings: tensorrt-rtx has the builder of TensorRT 11, and needs no GPU to build."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.tensorrt.settings import SCRIPTS
from tests.backends.tensorrt.device.bundles import device, python

SCRIPT = """
import json, sys
import tensorrt_rtx as trt
import build
graph = {"typing": "strong", "precision": "int8"}
profile = {"min": [1, 16, 8, 8], "opt": [2, 16, 8, 8], "max": [4, 16, 8, 8]}
settings = {"sparsity": True, "dla": None, "workspace_mib": 256, "optimization_level": 2, "profiles": {"x": profile}}
logger = build._logger(trt)
trt.init_libnvinfer_plugins(logger, "")
builder = trt.Builder(logger)
network = builder.create_network(build.network_flags(trt, graph))
parsed = trt.OnnxParser(network, logger).parse_from_file("MODEL")
config, flags, _ = build.configure(trt, builder, network, settings, graph)
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
plan = builder.build_serialized_network(network, config)
build.publish(build.pathlib.Path("MODEL.plan"), plan)
print(json.dumps([parsed, flags, config.num_optimization_profiles]))
try:
    build.configure(trt, builder, network, dict(settings, profiles={}), graph)
except build.Refused as error:
    print(error)
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
    said, refused = ended.stdout.splitlines()
    assert json.loads(said) == [True, ["SPARSE_WEIGHTS"], 1], ended.stderr
    assert refused == "no profile for the open axes of x: compile with --shape"
    assert Path(f"{path}.plan").stat().st_size > 1000
