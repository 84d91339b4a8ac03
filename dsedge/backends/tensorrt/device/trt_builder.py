"""Builds an engine by Python's tensorrt, from 8.5 to 11: which flags each version has is asked of the module itself.

By hasattr: NetworkDefinitionCreationFlag.EXPLICIT_BATCH (needed before 10, gone in 11) and STRONGLY_TYPED (ignored in
11), BuilderFlag.BF16 (from 9 to 10), ILayer.metadata (from 8.6 on), ParserError.node_name (from 10 on).
"""

import re
import sys

from trt_files import Refused
from trt_floats import to_floats
from trt_layers import onnx_nodes

# Builder flags of a weakly typed graph. Where its quantizers are taken out there is INT8 besides: TensorRT 8 refuses a
# network without it that has INT8 constants, read or not. Nothing runs in INT8 by that, and `build.py` looks.
FLAGS = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "bf16": ("BF16",), "fp32": ()}


class Unreadable(Refused):
    """The parser does not take the graph."""


def build(trt, path, settings, graph, cache):
    """Build an engine.

    Args:
        trt: Python's tensorrt.
        path: of the ONNX file.
        settings: as in build.json; `dla` is the core to use, or None, and `tf32` whether it is allowed.
        graph: {"precision", "typing", "floats"}; the last: the quantizers are taken out.
        cache: bytes of a timing cache.

    Returns:
        The engine's bytes, the timing cache's, the inspector's JSON, the flags, and what the builder complained about.

    Raises:
        Unreadable: what the parser says.
        Refused: what the builder says.
    """
    logger = _logger(trt)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    check_dla(builder, settings)
    network = builder.create_network(network_flags(trt, graph))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = ["{}{}".format(e.node_name() + ": " if hasattr(e, "node_name") else "", e.desc()) for e in errors]
        said = "; ".join(said) or "it says no reason"
        raise Unreadable(f"TensorRT {trt.__version__} cannot read {path.name}: {said}")
    held = to_floats(trt, network) if graph["floats"] else []
    config, flags, warnings = configure(trt, builder, network, settings, graph)
    timing = config.create_timing_cache(cache) or config.create_timing_cache(b"")
    config.set_timing_cache(timing, False)
    plan = builder.build_serialized_network(network, config)
    del held
    if plan is None:
        raise Refused("TensorRT built no engine: {}".format("; ".join(logger.errors[-3:]) or "it says no reason"))
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise Refused("the engine cannot be opened: {}".format("; ".join(logger.errors[-3:]) or "no reason is said"))
    inspector = engine.create_engine_inspector()
    details = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return plan, config.get_timing_cache().serialize(), details, flags, warnings + logger.warnings


def check_dla(builder, settings):
    """Refuse a DLA core that this machine does not have."""
    cores = builder.num_DLA_cores
    if settings["dla"] is not None and settings["dla"] >= cores:
        has = "DLA cores 0 to {}".format(cores - 1) if cores else "no DLA: Xavier, Orin NX and AGX Orin have one"
        raise Refused("there is no DLA core {}: this machine has {}".format(settings["dla"], has))


def network_flags(trt, graph):
    """Flags of `create_network`."""
    kinds = trt.NetworkDefinitionCreationFlag
    wanted = ("EXPLICIT_BATCH",) + (("STRONGLY_TYPED",) if graph["typing"] == "strong" else ())
    return sum(1 << int(getattr(kinds, name)) for name in wanted if hasattr(kinds, name))


def configure(trt, builder, network, settings, graph):
    """The builder's configuration, the flags that it has, and warnings.

    Raises:
        Refused: an input has open axes and no profile, or this TensorRT lacks a flag.
    """
    config, warnings = builder.create_builder_config(), []
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    flags = weak_flags(network, settings, graph, trt) if graph["typing"] == "weak" else []
    flags += ["SPARSE_WEIGHTS"] if settings["sparsity"] else []
    if settings["dla"] is not None:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, settings["dla"]
        flags.append("GPU_FALLBACK")
        cannot = sum(not config.can_run_on_DLA(network.get_layer(i)) for i in range(network.num_layers))
        warnings.append(f"{cannot} of {network.num_layers} layers of the network cannot run on the DLA")
    for flag in flags:
        if not hasattr(trt.BuilderFlag, flag):
            raise Refused(f"TensorRT {trt.__version__} has no {flag}" + (": 10 has" if flag == "BF16" else ""))
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if not settings["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings["workspace_mib"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings["workspace_mib"] << 20)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    open_inputs = [tensor.name for tensor in inputs if min(tensor.shape, default=0) < 0]
    missing = [name for name in open_inputs if name not in settings["profiles"]]
    if missing:
        raise Refused("no profile for the open axes of {}: compile with --shape".format(", ".join(missing)))
    if open_inputs:
        profile = builder.create_optimization_profile()
        for name in open_inputs:
            shapes = settings["profiles"][name]
            profile.set_shape(name, shapes["min"], shapes["opt"], shapes["max"])
        config.add_optimization_profile(profile)
    return config, flags, warnings


def weak_flags(network, settings, graph, trt):
    """Flags that say which precisions are allowed; nodes that must stay in float32 are bound to it.

    A node that reads INT8 goes on doing so, and only what it makes is float32.
    """
    flags = [flag for flag in FLAGS[graph["precision"]] if flag != "FP16" or settings["fp16"]]
    flags += ["INT8"] if graph["floats"] and "INT8" not in flags else []
    kept, codes = set(settings["float32_nodes"]), set() if graph["floats"] else set(settings["int8_nodes"])
    if not kept or not {"FP16", "BF16"} & set(flags):
        return flags
    for layer in [network.get_layer(i) for i in range(network.num_layers)]:
        nodes, made = nodes_of(layer), [layer.get_output(i) for i in range(layer.num_outputs)]
        if not kept & nodes or any(tensor.dtype != trt.DataType.FLOAT for tensor in made):
            continue
        if not codes & nodes:
            layer.precision = trt.DataType.FLOAT
        for i in range(len(made)):
            layer.set_output_type(i, trt.DataType.FLOAT)
    return [*flags, "OBEY_PRECISION_CONSTRAINTS"]


def nodes_of(layer):
    """Names of the ONNX node that a layer of the network may have been made of.

    Where there is no metadata the layers after a node's first one have a number behind its name (ImporterContext of
    onnx-tensorrt 8.5), and so can have nodes: too many layers are found then, never too few.
    """
    if hasattr(layer, "metadata") and layer.metadata:
        return onnx_nodes(layer.metadata)
    return {layer.name, re.sub(r"_\d+$", "", layer.name)}


def _logger(trt):
    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors, self.warnings = [], []

        def log(self, severity, message):
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
                print(message, file=sys.stderr)
            elif severity == trt.ILogger.WARNING and message not in self.warnings and len(self.warnings) < 100:
                self.warnings.append(message)

    return Logger()
