"""Builds the engine of this bundle on the device that it is for. Needs TensorRT 8.5 to 11, and nothing of dsedge.

python build.py                    build engine.plan, and record how in engine.json
python build.py --precision fp16   an engine to compare with, engine.fp16.plan, where the bundle has its graph
python build.py --any-gpu          on a GPU of another compute capability than the target's

Python's tensorrt module builds; where it is missing, `build.sh` does by `trtexec`. Settings are in build.json:

schema                1
target                {"name": of the board, "compute_capability": "8.7"}
precision             of engine.plan: "int8" (the rest in float16), "fp16", "bf16", "fp32", "int4" or "fp8"
graphs                [{"file", "sha256", "precision", "typing"}]; typing "weak": builder flags say which precisions are
                      allowed, "strong": the graph says all of them. One file may stand for several.
outputs               names of the model's outputs, in order
dynamic               names of the inputs that have open axes
profiles              {input: {"min": shape, "opt": shape, "max": shape}}, one for each of `dynamic`
workspace_mib         the most memory that a kernel may use beside its tensors; null: what the GPU has
sparsity              true where weights are pruned 2 of 4: kernels that skip zeros are tried
dla                   null, or {"core": 0, "gpu_fallback": true}: what the DLA can, it computes
optimization_level    0 to 5, null for TensorRT's own; TensorRT 8.5 has none
int8_nodes            names of the graph's nodes that were planned as INT8

`build.conf` says the same to build.sh, a line for each setting.
"""

import argparse
import hashlib
import json
import pathlib
import platform
import re
import subprocess
import sys
import time

import trt_layers
from trt_cuda import Cuda

# What each TensorRT reads, the preferred one first. Builder flags of precision ended with 11; strong typing is complete
# from 10 on (release notes of 10.0 and 11.0).
TYPINGS = (((8, 5), ("weak",)), ((10, 0), ("strong", "weak")), ((11, 0), ("strong",)), ((12, 0), ()))
# 10.7 was the last one with a DLA before 11.4 ("Working with DLA"). Before 11 it has builder flags only.
DLA_TYPINGS = (((8, 5), ("weak",)), ((10, 8), ()), ((11, 4), ("strong",)), ((12, 0), ()))
# Builder flags of a weakly typed graph.
FLAGS = {"int8": ("INT8", "FP16"), "fp16": ("FP16",), "bf16": ("BF16",), "fp32": ()}
# Decided by hasattr: NetworkDefinitionCreationFlag.EXPLICIT_BATCH (needed before 10, gone in 11) and STRONGLY_TYPED
# (ignored in 11), IBuilderConfig.builder_optimization_level (from 8.6 on), ParserError.node_name (from 10 on).

DETAILS = "layers.json"


class Refused(Exception):
    """A reason not to build, for the user."""


def typings(version, with_dla):
    """The typings that a version of TensorRT reads, the preferred first.

    Raises:
        Refused: it reads none.
    """
    table = DLA_TYPINGS if with_dla else TYPINGS
    found = [these for since, these in table if version[:2] >= since]
    if not found or not found[-1]:
        what = "the DLA needs TensorRT 8.5 to 10.7, or 11.4 and later" if with_dla else "TensorRT 8.5 to 11 is needed"
        raise Refused("{}, and this is {}".format(what, ".".join(map(str, version))))
    return found[-1]


def choose(settings, precision, version):
    """The graph to build from.

    Raises:
        Refused: the bundle has none that this TensorRT reads.
    """
    allowed = typings(version, settings["dla"] is not None)
    for typing in allowed:
        for graph in settings["graphs"]:
            if graph["precision"] == precision and graph["typing"] == typing:
                return graph
    has = sorted("{} ({}, {})".format(g["file"], g["precision"], g["typing"]) for g in settings["graphs"])
    raise Refused(
        "no graph for {} that TensorRT {} reads ({} typing); the bundle has {}".format(
            precision, ".".join(map(str, version)), " or ".join(allowed), ", ".join(has)
        )
    )


def check(folder, settings, graph):
    """Hash of the graph, and a profile for each input with open axes.

    Raises:
        Refused: the graph is missing or another one, or a profile is.
    """
    path = folder / graph["file"]
    if not path.is_file():
        raise Refused("{} is missing: copy the whole bundle".format(graph["file"]))
    if sha256(path) != graph["sha256"]:
        raise Refused("{} is not the file that was compiled: copy the bundle again".format(graph["file"]))
    missing = sorted(set(settings["dynamic"]) - set(settings["profiles"]))
    if missing:
        raise Refused("no profile for the open axes of {}: compile with --shape".format(", ".join(missing)))
    if settings["dla"] is not None and settings["dynamic"]:
        raise Refused("the DLA takes fixed shapes only, and {} has open axes".format(", ".join(settings["dynamic"])))


def check_gpu(settings, found, any_gpu):
    """Refuse a GPU of another compute capability than the target's, or warn."""
    wanted = settings["target"]
    if found["compute_capability"] == wanted["compute_capability"]:
        return []
    message = "this GPU is a {} of compute capability {}, and the bundle is for {} ({})".format(
        found["name"], found["compute_capability"], wanted["name"], wanted["compute_capability"]
    )
    if not any_gpu:
        raise Refused(message + ". To build for this one all the same: --any-gpu")
    return [message]


def build(trt, path, settings, graph, cache):
    """Build with Python's tensorrt.

    Returns:
        The engine's bytes, the timing cache's, the inspector's JSON, the flags, and what the builder complained about.
    """
    logger = _logger(trt)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt, graph))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = ["{}{}".format(e.node_name() + ": " if hasattr(e, "node_name") else "", e.desc()) for e in errors]
        raise Refused("TensorRT cannot read {}: {}".format(path.name, "; ".join(said) or "it says no reason"))
    config, flags, warnings = configure(trt, builder, network, settings, graph)
    timing = config.create_timing_cache(cache) or config.create_timing_cache(b"")
    config.set_timing_cache(timing, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refused("TensorRT built no engine: {}".format("; ".join(logger.errors[-3:]) or "it says no reason"))
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    inspector = engine.create_engine_inspector()
    details = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return plan, config.get_timing_cache().serialize(), details, flags, warnings + logger.warnings


def network_flags(trt, graph):
    """Flags of `create_network`."""
    kinds = trt.NetworkDefinitionCreationFlag
    wanted = ("EXPLICIT_BATCH",) + (("STRONGLY_TYPED",) if graph["typing"] == "strong" else ())
    return sum(1 << int(getattr(kinds, name)) for name in wanted if hasattr(kinds, name))


def configure(trt, builder, network, settings, graph):
    """The builder's configuration, the flags that it has, and warnings.

    Raises:
        Refused: an input has open axes and no profile.
    """
    config, warnings = builder.create_builder_config(), []
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    flags = list(FLAGS[graph["precision"]]) if graph["typing"] == "weak" else []
    flags += ["SPARSE_WEIGHTS"] if settings["sparsity"] else []
    if settings["dla"] is not None:
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, settings["dla"]["core"]
        flags += ["GPU_FALLBACK"] if settings["dla"]["gpu_fallback"] else []
        cannot = sum(not config.can_run_on_DLA(network.get_layer(i)) for i in range(network.num_layers))
        warnings.append(f"{cannot} of {network.num_layers} layers of the network cannot run on the DLA")
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if settings["workspace_mib"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings["workspace_mib"] << 20)
    if settings["optimization_level"] is not None and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = settings["optimization_level"]
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


def numbers(text):
    """A version as numbers: "10.3.0.26" -> (10, 3, 0, 26)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def sha256(path):
    """sha256 of a file, in hex."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            made.update(piece)
    return made.hexdigest()


def publish(path, data):
    """Write a file under another name first, so that what has its name is whole."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        if new.exists():
            new.unlink()


def name_of(settings, precision):
    """Stem of an engine's files."""
    return "engine" if precision == settings["precision"] else f"engine.{precision}"


def by_module(trt, folder, settings, precision, gpu):
    """Build with Python's tensorrt and write the engine; returns its record, without the coverage."""
    version = numbers(trt.__version__)
    graph = choose(settings, precision, version)
    check(folder, settings, graph)
    start = time.time()
    cached = folder / "timing.cache"
    cache = cached.read_bytes() if cached.is_file() else b""
    plan, cache, details, flags, warnings = build(trt, folder / graph["file"], settings, graph, cache)
    stem = name_of(settings, precision)
    publish(folder / (stem + ".plan"), plan)
    publish(folder / (stem + "." + DETAILS), details.encode("utf-8"))
    publish(cached, cache)
    return {
        "schema": 1,
        "made_by": "tensorrt",
        "tensorrt": trt.__version__,
        "gpu": gpu,
        "flags": flags + (["STRONGLY_TYPED"] if graph["typing"] == "strong" else []),
        "seconds": round(time.time() - start, 1),
        "graph": {"file": graph["file"], "sha256": graph["sha256"]},
        "engine": {"file": stem + ".plan", "sha256": sha256(folder / (stem + ".plan"))},
        "warnings": warnings,
    }


def by_trtexec(folder, settings, precision, any_gpu):
    """Build with build.sh; returns its record."""
    for graph in settings["graphs"]:
        if graph["precision"] == precision and (folder / graph["file"]).is_file():
            check(folder, settings, graph)
    command = ["sh", str(folder / "build.sh"), precision] + (["--any-gpu"] if any_gpu else [])
    ended = subprocess.run(command, stdin=subprocess.DEVNULL)
    if ended.returncode:
        raise Refused(f"build.sh ended with {ended.returncode}")
    record = folder / (name_of(settings, precision) + ".json")
    return json.loads(record.read_text(encoding="utf-8"))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="of an engine to compare with (default: the bundle's own)")
    parser.add_argument("--any-gpu", action="store_true", help="build though the GPU is not the target's")
    args = parser.parse_args()
    folder = pathlib.Path(__file__).resolve().parent
    settings = json.loads((folder / "build.json").read_text(encoding="utf-8"))
    precision = args.precision or settings["precision"]
    gpu = Cuda().gpu()
    warnings = check_gpu(settings, gpu, args.any_gpu)
    if settings["dla"] is not None:
        warnings.append("dsedge never ran on a DLA; that of TensorRT 8.5 takes no Q/DQ, which then runs on the GPU")
    try:
        import tensorrt
    except ImportError:
        record = by_trtexec(folder, settings, precision, args.any_gpu)
    else:
        record = by_module(tensorrt, folder, settings, precision, gpu)
    stem = name_of(settings, precision)
    record.update(gpu=gpu, os=f"{platform.platform()} {platform.machine()}")
    record["warnings"] = warnings + record["warnings"]
    layers = trt_layers.read_layers((folder / (stem + "." + DETAILS)).read_text(encoding="utf-8"))
    planned = settings["int8_nodes"] if precision == settings["precision"] else []
    codes, others = trt_layers.coverage(layers, planned)
    record.update(layers=len(layers), int8=codes, not_int8=others, dla=trt_layers.dla(layers))
    publish(folder / (stem + ".json"), json.dumps(record, indent=1).encode("utf-8"))
    print("{}: {} of {} planned nodes run in INT8".format(stem + ".plan", len(codes), len(planned)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, ImportError, OSError, RuntimeError, ValueError, KeyError) as error:
        print(f"build.py: {error}", file=sys.stderr)
        sys.exit(2)
