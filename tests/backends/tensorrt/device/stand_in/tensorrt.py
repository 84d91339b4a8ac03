"""A stand-in for Python's tensorrt: the names that a version documents and no others; ONNX Runtime computes. It is no
TensorRT: it says nothing of what TensorRT accepts, builds or runs. Version by TENSORRT_VERSION ("8.5.2.2"), DLA cores
by DLA_CORES, the last opset that its parser reads by PARSER_OPSET, and TENSORRT_FAILS ("build", "open") runs out of
memory there. It runs on JetPack 5's Python 3.8 and numpy 1.17 too, with onnx 1.14 and ONNX Runtime 1.10: there `zip` is
never strict.

From the Python API references of 8.5.3, 8.6, 10 and 11 and the page "Removed Python APIs and Replacements" (11): from
11 on there is no BuilderFlag.FP16 and INT8, and no EXPLICIT_BATCH; before 10 no STRONGLY_TYPED, a network needs
EXPLICIT_BATCH, ParserError has no node_name, and opset 17 is the last; before 8.6 ILayer has no metadata. The second
layer of a node (of a Gemm the addition) has a number behind its name; a stand-in for it is made of a Gemm only.
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
_FAILS = os.environ.get("TENSORRT_FAILS", "")

ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED")
DeviceType = enum.Enum("DeviceType", "GPU DLA")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")
TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 INT64")
BuilderFlag = enum.Enum(
    "BuilderFlag",
    "GPU_FALLBACK SPARSE_WEIGHTS TF32"
    + (" FP16 INT8 OBEY_PRECISION_CONSTRAINTS" if _V < (11,) else "")
    + (" BF16" if (9,) < _V < (11,) else ""),
)
LayerType = enum.Enum("LayerType", "CONSTANT QUANTIZE DEQUANTIZE CAST CONVOLUTION OTHER")
_KINDS = {"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Cast": "CAST", "Conv": "CONVOLUTION"}
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag",
    {**({"EXPLICIT_BATCH": 0} if _V < (11,) else {}), **({"STRONGLY_TYPED": 1} if _V >= (10,) else {})},
)
_TYPES = {
    np.dtype("f4"): "FLOAT",
    np.dtype("f2"): "HALF",
    np.dtype("i1"): "INT8",
    np.dtype("?"): "BOOL",
    np.dtype("i8"): "INT64" if _V >= (10,) else "INT32",
    np.dtype("i4"): "INT32",
}


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

    num_DLA_cores = int(os.environ.get("DLA_CORES", "0"))

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
        quantizers = any(node.op_type == "QuantizeLinear" for node in network.model.graph.node)
        if (quantizers and not network.strong and "INT8" not in config.flags) or _FAILS == "build":
            self.logger.log(ILogger.ERROR, "INT8 is not configured" if _FAILS != "build" else "out of memory")
            return None
        network.clean_up()
        shapes = {name: three for profile in config.profiles for name, three in profile.items()}
        kept = {layer.name: layer.bound for layer in network.layers if layer.bound}
        assert not kept or "OBEY_PRECISION_CONSTRAINTS" in config.flags
        return json.dumps([__version__, network.model.SerializeToString().hex(), shapes, kept]).encode()


class _Profile(dict):  # type: ignore[type-arg]
    def set_shape(self, name: str, least: list[int], usual: list[int], most: list[int]) -> None:
        self[name] = [least, usual, most]


class Weights:
    def __init__(self, a: np.ndarray) -> None:
        self.array = a


class ILayer:
    """A node, or a constant. What only some kinds have is reached by setting `__class__`, as in TensorRT."""

    def __init__(self, network: Network, proto: Any) -> None:
        self.network, self.proto, self.name = network, proto, proto.name
        self.ins: list[str] = [] if isinstance(proto, onnx.TensorProto) else list(proto.input)
        self.bound: list[str] = []
        if _V >= (8, 6):
            self.metadata = f"[ONNX Layer: {proto.name}]"
        self.outs = [proto.name] if isinstance(proto, onnx.TensorProto) else list(proto.output)
        self.num_inputs, self.num_outputs = len(self.ins), len(self.outs)
        kind = "CONSTANT" if isinstance(proto, onnx.TensorProto) else _KINDS.get(proto.op_type, "OTHER")
        self.type = LayerType[kind]

    def get_input(self, i: int) -> Any:
        return self.network.tensor(self.ins[i]) if self.ins[i] else None

    def get_output(self, i: int) -> Any:
        return self.network.tensor(self.outs[i])

    if _V < (11,):

        def set_output_type(self, i: int, dtype: Any) -> None:
            assert i < self.num_outputs and dtype == DataType.FLOAT
            self.bound.append("output")

        def _bind(self, dtype: Any) -> None:
            assert dtype == DataType.FLOAT
            self.bound.append("precision")

        precision = property(None, _bind)

    def set_input(self, i: int, tensor: Any) -> None:
        self.ins[i] = self.proto.input[i] = tensor.name


class IConstantLayer(ILayer):
    weights = property(lambda self: onnx.numpy_helper.to_array(self.proto).ravel())
    shape = property(lambda self: tuple(self.proto.dims))


class IDequantizeLayer(ILayer):
    axis = property(lambda self: next((a.i for a in self.proto.attribute if a.name == "axis"), 1))


class Network:
    def __init__(self, strong: bool) -> None:
        self.strong = strong

    num_inputs = property(lambda self: len(self.model.graph.input))
    num_layers = property(lambda self: len(self.layers))

    def take(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.model = model
        self.types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input)}
        self.types.update({v.name: v.type.tensor_type.elem_type for v in inferred.output})
        self.types.update({tensor.name: tensor.data_type for tensor in model.graph.initializer})
        self.layers = [ILayer(self, proto) for proto in (*model.graph.initializer, *model.graph.node)]
        for gemm in [node for node in model.graph.node if node.op_type == "Gemm"]:
            self.layers.append(ILayer(self, gemm))
            self.layers[-1].name += "_0"

    def tensor(self, name: str) -> Any:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.types[name]))
        return type("Tensor", (), {"name": name, "dtype": DataType[_TYPES[dtype]]})

    def get_input(self, i: int) -> Any:
        value = self.model.graph.input[i]
        return type("Tensor", (), {"name": value.name, "shape": _shape(value)})

    def get_layer(self, i: int) -> Any:
        return self.layers[i]

    def add_constant(self, shape: tuple[int, ...], weights: Weights) -> Any:
        assert weights.array.shape == shape and weights.array.flags.c_contiguous
        tensor = onnx.numpy_helper.from_array(weights.array, f"added_{len(self.layers)}")
        return self._add(self.model.graph.initializer, tensor, tensor.data_type)

    if _V >= (10,):

        def add_cast(self, tensor: Any, to_type: Any) -> Any:
            to = next(k for k in self.types.values() if self._named(k) == to_type.name)
            name = f"added_{len(self.layers)}"
            node = onnx.helper.make_node("Cast", [tensor.name], [name + "_output"], name, to=to)
            return self._add(self.model.graph.node, node, to)

    def _named(self, elem_type: int) -> str | None:
        return _TYPES.get(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)))

    def _add(self, where: Any, proto: Any, elem_type: int) -> Any:
        where.append(proto)
        self.layers.append(ILayer(self, proto))
        self.types[self.layers[-1].outs[0]] = elem_type
        return self.layers[-1]

    def clean_up(self) -> None:
        """Nodes in an order in which they can run, and those that nothing reads dropped."""
        graph = self.model.graph
        made = {output: node for node in graph.node for output in node.output}
        ordered: list[Any] = []

        def need(name: str) -> None:
            if name in made and all(made[name] is not node for node in ordered):
                for each in made[name].input:
                    need(each)
                ordered.append(made[name])

        for output in graph.output:
            need(output.name)
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)


class Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.profiles: list[_Profile] = []
        self.timing = None

    def __setattr__(self, name: str, value: Any) -> None:
        known = ["flags", "profiles", "timing", "profiling_verbosity", "default_device_type", "DLA_core"]
        assert name in known, name
        self.__dict__[name] = value

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.remove(flag.name)

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
        return bool(layer.type == LayerType.CONVOLUTION)


class OnnxParser:
    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network = network
        self.errors: list[Any] = []

    num_errors = property(lambda self: len(self.errors))

    def get_error(self, i: int) -> Any:
        return self.errors[i]

    def parse_from_file(self, path: str) -> bool:
        self.network.take(onnx.load(path))
        opset = self.network.model.opset_import[0].version
        if opset > int(os.environ.get("PARSER_OPSET", "17" if _V < (10,) else "99")):
            said = {"desc": lambda self: f"opset {opset}", **({"node_name": lambda self: "n"} if _V >= (10,) else {})}
            self.errors.append(type("ParserError", (), said)())
        return not self.errors


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        pass

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        version, model, shapes, kept = json.loads(data)
        if _FAILS == "open":
            return None
        if version != __version__:
            return None
        return Engine(onnx.load_from_string(bytes.fromhex(model)), shapes, kept)


class Engine:
    def __init__(self, model: Any, profiles: dict[str, list[list[int]]], kept: dict[str, list[str]]) -> None:
        self.model, self.profiles, self.kept = model, profiles, kept
        if onnxruntime.__version__.startswith("1.10."):  # it ends there; what the tests run is the same in both
            model.opset_import[0].version = min(model.opset_import[0].version, 15)
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
        codes = {node.output[0] for node in self.model.graph.node if node.op_type == "DequantizeLinear"}
        products = [node for node in self.model.graph.node if node.op_type in ("Conv", "Gemm")]
        made = [_layer(node, set(node.input[:2]) <= codes) for node in products]
        text = json.dumps({"Layers": made, "Bound": self.kept})
        return type("Inspector", (), {"get_engine_information": lambda self, kind: text})()


def _layer(node: onnx.NodeProto, on_codes: bool) -> dict[str, Any]:
    kind = "Int8" if on_codes else "Half"
    if _V < (10,):
        kind = f"Thirty-two wide channel vectorized row major {kind} format"
    tensor = {"Format": "Row major linear", "Datatype": kind} if _V >= (11,) else {"Format/Datatype": kind}
    named = {"Name": "fused", "Metadata": f"[ONNX Layer: {node.name}]\x1e[ONNX Layer: relu]"}
    if _V < (8, 6):
        named = {"Name": f"{node.input[1]} + {node.name} + relu"}
    return {**named, "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", **tensor}]}


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        least, _, most = self.engine.profiles.get(name, [self.engine.get_tensor_shape(name)] * 3)
        return len(shape) == len(most) and all(a <= b <= c for a, b, c in zip(least, shape, most))  # noqa: B905

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        model = onnx.ModelProto()
        model.CopyFrom(self.engine.model)
        for value in model.graph.input:
            for dim, size in zip(value.type.tensor_type.shape.dim, self.shapes[value.name]):  # noqa: B905
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
        for value, array in zip(self.engine.model.graph.output, self.engine.session.run(None, feeds)):  # noqa: B905
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
