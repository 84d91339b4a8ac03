"""The quantizers that `compare_peers.py` compares; it starts this file once for each of them.

    python tools/quantizers.py --job '{"tool": "dsedge", "options": {}, "model": "m.onnx", "calibration": "c.npz", ...}'

A quantizer reads `model` (ONNX) and `calibration` (.npz, arrays by input name, the first axis counts samples), and
writes `artifact` (ONNX for ONNX Runtime on x86, TFLite for LiteRT, IR for OpenVINO). The option `runtime` is
dsedge's and NNCF's; the option `float` is the float model as TFLite, which ai-edge-quantizer reads. The last line
printed is a JSON object: `seconds` of the work that users wait for, imports excluded; `peak_rss_mb` of the process,
imports included; `notes`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from workers import peak_rss_mb

Samples = list[dict[str, npt.NDArray[Any]]]

TARGET = "pos-x86"


def read_samples(path: Path) -> Samples:
    """The samples of an .npz as feeds of batch 1."""
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files if name != "labels"}
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(len(next(iter(arrays.values()))))]


def by_dsedge(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The whole compilation; `seconds` are those of the steps that do what the peers' functions do.

    The other steps give evidence, which those do not. The step "normalize" is the passes of that name and the
    comparison of their result with the original: the passes count, the comparison does not.
    """
    import onnx  # noqa: F401  the compilation would import it, and its seconds would count
    import onnxruntime  # noqa: F401

    import dsedge.compiler
    from dsedge.backends.base import available, load_backend
    from dsedge.passes import discover
    from dsedge.passes.normalize import FINISH, NORMALIZE

    options = {"runtime": "onnxruntime", **options}
    for name in available() if options["runtime"] == "auto" else (options["runtime"],):
        load_backend(name)
    discover()
    os.environ["DSEDGE_CACHE"] = str(Path("cache").resolve())  # an empty one
    bundle = dsedge.compiler.compile(model, target=TARGET, calibration=calibration, output="bundle", **options)
    artifact = artifact.with_suffix(bundle.file("model").suffix)  # of the runtime that was chosen
    shutil.copy(bundle.file("model"), artifact)
    if (weights := bundle.file("model").with_suffix(".bin")).exists():
        shutil.copy(weights, artifact.with_suffix(".bin"))
    steps = {step.name: step.seconds for step in bundle.manifest.passes}
    failed = [f"gate {gate.name} FAILED" for gate in bundle.manifest.failed]
    quantizing = {"load", *NORMALIZE, *FINISH, "prepare", "annotate", "smooth", "calibrate", "quantize", "build"}
    seconds = sum(took for name, took in steps.items() if name.split(": ")[-1] in quantizing)
    notes = [*failed, *bundle.manifest.notes]
    return {"seconds": seconds, "steps": steps, "notes": notes, "artifact": str(artifact)}


def by_onnxruntime_static(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`quant_pre_process`, then `quantize_static`: Q/DQ, s8 weights; u8 activations and per channel unless told."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples: Iterator[dict[str, npt.NDArray[Any]]] = iter(read_samples(calibration))

        def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
            return next(self.samples, None)

    method = CalibrationMethod[options.pop("method")]
    activations = QuantType[options.pop("activations", "QUInt8")]
    per_channel, operators = options.pop("per_channel", True), options.pop("operators", None)
    notes = []
    start = time.perf_counter()
    try:
        quant_pre_process(str(model), "prepared.onnx")
    except Exception as error:  # of many types; its documentation names the option for such models
        notes.append(f"symbolic shape inference fails, {type(error).__name__}, and is skipped")
        start = time.perf_counter()
        quant_pre_process(str(model), "prepared.onnx", skip_symbolic_shape=True)
    quantize_static(
        "prepared.onnx",
        str(artifact),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=operators,
        per_channel=per_channel,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        extra_options=options,
    )
    return {"seconds": time.perf_counter() - start, "notes": notes}


def by_onnxruntime_dynamic(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`quantize_dynamic` of the operators named.

    torch's exporter leaves the weights of an LSTM behind Slice and Concat, where `quantize_dynamic` does not find them.
    onnxscript folds them in a tenth of the time that `quant_pre_process` takes; shapes inferred before must then go.
    With the option "fuse", an architecture, ONNX Runtime's optimizer for transformers does the preparation instead.
    """
    import onnx
    import onnx_ir as ir
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from onnxscript.optimizer import optimize_ir

    weights, architecture = QuantType[options.pop("weights")], options.pop("fuse", None)
    start = time.perf_counter()
    if architecture:
        optimize_model(str(model), architecture).save_model_to_file("prepared.onnx")
    else:
        graph = ir.load(model)
        optimize_ir(graph, input_size_limit=2**30, output_size_limit=2**30)
        proto = ir.to_proto(graph)
        del proto.graph.value_info[:]
        onnx.save(proto, "prepared.onnx")
    quantize_dynamic("prepared.onnx", str(artifact), weight_type=weights, **options)
    return {"seconds": time.perf_counter() - start}


def by_nncf(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`nncf.quantize` for a CPU, with fast bias correction, its default: of the ONNX model, or of it as OpenVINO's."""
    os.environ["NNCF_CI"] = "1"  # a benchmark is no use worth counting: no telemetry
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    advanced = AdvancedQuantizationParameters()
    model_type = nncf.ModelType(options["model_type"]) if "model_type" in options else None
    if options.get("per_tensor"):
        advanced.activations_quantization_params = QuantizationParameters(per_channel=False)
    if "ranges" in options:
        advanced.activations_range_estimator_params = getattr(RangeEstimatorParametersSet, options["ranges"])
    in_openvino = options.get("runtime") == "openvino"
    if in_openvino:
        import openvino
    start = time.perf_counter()
    samples = read_samples(calibration)
    quantized = nncf.quantize(
        openvino.convert_model(model) if in_openvino else onnx.load(model),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset(options.get("preset", "mixed")),
        target_device=nncf.TargetDevice.CPU,
        model_type=model_type,
        subset_size=len(samples),
        advanced_parameters=advanced,
    )
    if in_openvino:
        openvino.save_model(quantized, artifact, compress_to_fp16=False)
    else:
        onnx.save(quantized, artifact)
    return {"seconds": time.perf_counter() - start}


def by_ai_edge_quantizer(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`ai_edge_quantizer` on the float TFLite model, by one of its recipes; inputs and outputs stay float, as dsedge's.

    With the option "ranges" what its calibration found is replaced by the least and the greatest value that ONNX
    Runtime gives for the tensors of the same name, whose seconds count as calibration's do.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe, recipe_manager

    chosen = recipe_manager.RecipeManager()
    chosen.load_quantization_recipe(getattr(recipe, options["recipe"])())
    for ends in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        chosen.add_quantization_config(
            regex=".*", operation_name=ends, algorithm_key=recipe_manager.AlgorithmName.NO_QUANTIZE
        )
    work = quantizer.Quantizer(options["float"], chosen.get_quantization_recipe())
    start = time.perf_counter()
    found = None
    if work.need_calibration:
        samples = read_samples(calibration)
        found = work.calibrate({"serving_default": samples}, num_threads=1)
        if options.get("ranges"):
            _inject(found, model, samples)
    result = work.quantize(found, enable_progress_report=False)
    Path(artifact).write_bytes(bytes(result.quantized_model))
    return {"seconds": time.perf_counter() - start}


def _inject(found: dict[str, Any], model: Path, samples: Samples) -> None:
    """Replace ranges by those that the ONNX model's values have, where a tensor is named after one."""
    import onnx_ir as ir

    from dsedge.frontend import load
    from dsedge.passes.normalize import normalize
    from dsedge.quant.calibrate import exposing
    from dsedge.session import open_session

    graph = normalize(load(model))[0].graph
    floats = {v.name for node in graph.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT}
    names = [name for name in found if name in floats]
    session = open_session(exposing(graph, names))
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for feeds in samples:
        for name, array in zip(names, session.run(names, feeds), strict=True):
            lows[name], highs[name] = min(lows[name], float(array.min())), max(highs[name], float(array.max()))
    for name in names:
        for side, value in (("min", lows[name]), ("max", highs[name])):
            found[name][side] = np.full_like(found[name][side], value)


TOOLS = {
    "dsedge": by_dsedge,
    "onnxruntime static": by_onnxruntime_static,
    "onnxruntime dynamic": by_onnxruntime_dynamic,
    "nncf": by_nncf,
    "ai-edge-quantizer": by_ai_edge_quantizer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True, type=json.loads)
    job = parser.parse_args().job
    model, calibration, artifact = (Path(job[name]) for name in ("model", "calibration", "artifact"))
    result = TOOLS[job["tool"]](model, calibration, artifact, job["options"])
    print(json.dumps({"notes": [], **result, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
