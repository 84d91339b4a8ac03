"""A stand-in for Python's tensorrt: the names that a version documents and no others; ONNX Runtime computes. It is no
TensorRT: it says nothing of what TensorRT accepts, builds or runs. Version by TENSORRT_VERSION ("8.5.2.2").

From the Python API references of 8.5.3, 8.6, 10 and 11 and the page "Removed Python APIs and Replacements" (11): from
11 on there is no BuilderFlag.FP16 and INT8, and no EXPLICIT_BATCH; before 10 no STRONGLY_TYPED, a network needs
EXPLICIT_BATCH, ParserError has no node_name, and opset 17 is the last; before 8.6 no builder_optimization_level.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = os.environ["TENSORRT_VERSION"]
_V = tuple(map(int, __version__.split(".")[:2]))

ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED")
DeviceType = enum.Enum("DeviceType", "GPU DLA")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")
TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 INT64")
BuilderFlag = enum.Enum("BuilderFlag", "GPU_FALLBACK SPARSE_WEIGHTS TF32" + (" FP16 INT8" if _V < (11,) else ""))
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag",
    {**({"EXPLICIT_BATCH": 0} if _V < (11,) else {}), **({"STRONGLY_TYPED": 1} if _V >= (10,) else {})},
)
_TYPES = {np.dtype("f4"): "FLOAT", np.dtype("i8"): "INT64" if _V >= (10,) else "INT32", np.dtype("i4"): "INT32"}


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    assert isinstance(logger, ILogger) and namespace == ""
    return True


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Logger(ILogger):
    def __init__(self, severity: int) -> None:
        assert severity == ILogger.ERROR


class IOutputAllocator:
    pass


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags & 1 or _V >= (10,), "an ONNX graph needs an explicit batch"
        assert flags < 4 and (not flags & 2 or _V >= (10,))
        return Network(strong=bool(flags & 2) or _V >= (11,))

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        assert config.profiling_verbosity == ProfilingVerbosity.DETAILED and config.timing is not None
        assert not (network.strong and {"FP16", "INT8"} & config.flags), "flags and strong typing exclude each other"
        self.logger.log(ILogger.WARNING, "a warning")
        shapes = {name: three for profile in config.profiles for name, three in profile.items()}
        return json.dumps([__version__, network.model.SerializeToString().hex(), shapes]).encode()


class _Profile(dict):  # type: ignore[type-arg]
    def set_shape(self, name: str, least: list[int], usual: list[int], most: list[int]) -> None:
        self[name] = [least, usual, most]


class Network:
    def __init__(self, strong: bool) -> None:
        self.strong = strong

    num_inputs = property(lambda self: len(self.model.graph.input))
    num_layers = property(lambda self: len(self.model.graph.node))

    def get_input(self, i: int) -> Any:
        value = self.model.graph.input[i]
        return type("Tensor", (), {"name": value.name, "shape": _shape(value)})

    def get_layer(self, i: int) -> Any:
        return self.model.graph.node[i]


class Config:
    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.profiles: list[_Profile] = []
        self.timing = None
        known = ["profiling_verbosity", "default_device_type", "DLA_core"]
        self.__dict__["known"] = known
        if _V >= (8, 6):
            known.append("builder_optimization_level")
            self.builder_optimization_level = 3

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in ("flags", "profiles", "timing") or name in self.known, name
        self.__dict__[name] = value

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE and size >= 1 << 20

    def create_timing_cache(self, data: bytes) -> Any:
        return None if data == b"of another version" else type("Cache", (), {"serialize": lambda self: b"cache"})()

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        assert cache is not None and ignore_mismatch is False
        self.timing = cache

    def get_timing_cache(self) -> Any:
        return self.timing

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.profiles.append(profile)

    def can_run_on_DLA(self, layer: Any) -> bool:
        return bool(layer.op_type == "Conv")


class OnnxParser:
    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network, self.errors = network, list[Any]()

    num_errors = property(lambda self: len(self.errors))

    def get_error(self, i: int) -> Any:
        return self.errors[i]

    def parse_from_file(self, path: str) -> bool:
        self.network.model = onnx.load(path)
        opset = self.network.model.opset_import[0].version
        if opset > 17 and _V < (10,):
            said = {"desc": lambda self: f"opset {opset}", **({"node_name": lambda self: "n"} if _V >= (10,) else {})}
            self.errors.append(type("ParserError", (), said)())
        return not self.errors


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        pass

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        version, model, shapes = json.loads(data)
        return Engine(onnx.load_from_string(bytes.fromhex(model)), shapes) if version == __version__ else None


class Engine:
    def __init__(self, model: onnx.ModelProto, profiles: dict[str, list[list[int]]]) -> None:
        self.model, self.profiles = model, profiles
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.values = {v.name: v for v in (*model.graph.input, *model.graph.output)}
        self.ins = [v.name for v in model.graph.input]
        self.num_io_tensors = len(self.values)

    def get_tensor_name(self, i: int) -> str:
        return list(reversed(self.values))[i]  # in an order of its own

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self.ins else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return _shape(self.values[name])

    def get_tensor_dtype(self, name: str) -> Any:
        elem = self.values[name].type.tensor_type.elem_type
        return DataType[_TYPES[np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem))]]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Any:
        text = json.dumps({"Layers": [_layer(n) for n in self.model.graph.node if n.op_type in ("Conv", "Gemm")]})
        return type("Inspector", (), {"get_engine_information": lambda self, kind: text})()


def _layer(node: onnx.NodeProto) -> dict[str, Any]:
    kind = "Int8" if _V >= (10,) else "Thirty-two wide channel vectorized row major Int8 format"
    tensor = {"Format": "Row major linear", "Datatype": "Int8"} if _V >= (11,) else {"Format/Datatype": kind}
    named = {"Name": "fused", "Metadata": f"[ONNX Layer: {node.name}]\x1e[ONNX Layer: relu]"}
    if _V < (8, 6):
        named = {"Name": f"{node.input[1]} + {node.name} + relu"}
    return {**named, "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", **tensor}]}


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.shapes, self.addresses = engine, dict[str, Any](), dict[str, int]()
        self.allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        least, _, most = self.engine.profiles.get(name, [self.engine.get_tensor_shape(name)] * 3)
        return len(shape) == len(most) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        model = onnx.ModelProto()
        model.CopyFrom(self.engine.model)
        for value in model.graph.input:
            for dim, size in zip(value.type.tensor_type.shape.dim, self.shapes[value.name], strict=True):
                dim.dim_value = size
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        return _shape(next(v for v in inferred.graph.output if v.name == name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        feeds = {}
        for name in self.engine.ins:
            wanted = onnx.helper.tensor_dtype_to_np_dtype(self.engine.values[name].type.tensor_type.elem_type)
            held = {"FLOAT": "f4", "INT64": "i8", "INT32": "i4"}[self.engine.get_tensor_dtype(name).name]
            size = int(np.prod(self.shapes[name])) * np.dtype(held).itemsize
            raw = ctypes.string_at(self.addresses[name], size)
            feeds[name] = np.frombuffer(raw, held).reshape(self.shapes[name]).astype(wanted)
        for value, array in zip(self.engine.model.graph.output, self.engine.session.run(None, feeds), strict=True):
            held = {"FLOAT": "f4", "INT64": "i8", "INT32": "i4"}[self.engine.get_tensor_dtype(value.name).name]
            data = np.ascontiguousarray(array.astype(held))
            address = self.addresses.get(value.name)
            if value.name in self.allocators:
                allocate = self.allocators[value.name]
                grow = allocate.reallocate_output_async if _V >= (10,) else allocate.reallocate_output
                address = grow(value.name, address, data.nbytes, 256, *([stream] if _V >= (10,) else []))
                allocate.notify_shape(value.name, array.shape)
            ctypes.memmove(address, data.ctypes.data, data.nbytes)
        return True
