"""ONNX Runtime on this machine's CPU: the reference executor of the float graph and of the Q/DQ graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from dsedge.bench import runner
from dsedge.errors import BundleError, VerifyError

if TYPE_CHECKING:
    import onnxruntime as ort


REFERENCE = "onnxruntime"
"""The runtime that executes graphs for calibration and comparison: it must run every model."""

INT8_KERNELS = {"session.qdqisint8allowed": "1"}
"""Configuration with which the optimizer takes INT8 kernels for s8 patterns too. On x86 without VNNI they saturate."""


def open_session(
    model: ir.Model | Path,
    *,
    optimize: bool = True,
    threads: int | None = None,
    save_optimized: Path | None = None,
    profile: Path | None = None,
    config: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """Open a session on the CPU.

    Args:
        model: the graph, or a file.
        optimize: with graph optimizations; without them every node runs as it is written.
        threads: intra-op threads; None for all cores.
        save_optimized: where to write the graph that the runtime really executes.
        profile: how the names of the profiler's files begin; None for no profiler.
        config: session configuration entries.

    Raises:
        VerifyError: DS502 when the runtime refuses the model.
        BundleError: DS802 when the temporary folder cannot be written.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    else:  # idle threads that spin take the cores from whatever else runs here
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if save_optimized is not None:
        options.optimized_model_filepath = str(save_optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = model
            if isinstance(model, ir.Model):
                # The runtime maps weights of an external file, where it would copy those of a serialized model twice.
                path = Path(folder) / "model.onnx"
                ir.save(model, path, external_data="weights")
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except OSError as error:
        hint = "free some space there, or let TMPDIR name another folder"
        because = error.strerror or str(error)
        raise BundleError("DS802", "the temporary folder cannot be written", because=because, hint=hint) from error
    except Exception as error:  # onnxruntime's exception types are not public
        raise VerifyError("DS502", "ONNX Runtime refuses the model", because=first_line(error)) from error


def first_line(error: Exception) -> str:
    """The first line of a runtime's message that says something, as the bundle's runner prints it."""
    return str(runner.first_line(error))
