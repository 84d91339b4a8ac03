"""The compiler's process: parses and builds one ONNX file with tensorrt-rtx, and writes what it said as JSON.

Run by `oracle.py` as a script, in a process of its own, because a C++ library that reads a hostile graph can crash or
take all of the memory. Imports nothing of dsedge. The engine is thrown away: it is the compiler's opinion that counts.

    python compiler.py MODEL.onnx RESULT.json SM80 PROFILES_JSON MEMORY_BYTES
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(model: str, result: str, architecture: str, profiles: str, memory: str) -> None:
    """Parse, build, write; what the library does not survive, `oracle.check` reports."""
    _limit_memory(int(memory))
    import tensorrt_rtx as trt

    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    said: dict[str, Any] = {"parsed": parser.parse_from_file(model), "built": False, "layers": []}
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    said["errors"] = [{"node": e.node_name(), "op": e.node_operator(), "reason": e.desc()} for e in errors]
    if said["parsed"]:
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, architecture), 0)
        _add_profile(builder, config, network, json.loads(profiles))
        said["built"] = builder.build_serialized_network(network, config) is not None
        said["layers"] = logger.layers
    said["complaints"] = logger.complaints
    Path(result).write_text(json.dumps(said), encoding="utf-8")


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _logger(trt: Any) -> Any:
    """Keeps errors, and the list of layers, which the builder says only here: to read an engine takes a GPU."""

    class Logger(trt.ILogger):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.complaints: list[str] = []
            self.layers: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.complaints.append(message)
            elif message.startswith("Layers:"):
                self.layers = [line for line in message.splitlines() if ", LayerType: " in line]

    return Logger()


def _add_profile(builder: Any, config: Any, network: Any, profiles: dict[str, list[list[int]]]) -> None:
    """One optimization profile: for each input that has open axes the least, usual and greatest shape."""
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in profiles.items():
        profile.set_shape(name, least, usual, most)
    config.add_optimization_profile(profile)


if __name__ == "__main__":
    main(*sys.argv[1:])
