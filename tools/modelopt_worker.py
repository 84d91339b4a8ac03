"""One quantizer of `compare_modelopt.py` in a process of its own, and ModelOpt in an environment of its own.

    python tools/modelopt_worker.py --job '{"tool": "modelopt", "python": "PATH", "options": {}, "model": ...}'

`artifact` is a float32 Q/DQ graph; dsedge writes its float16 graph beside it, under the suffix `.fp16.onnx`. The job
and the last line printed are those of `quantizers.py`. `python` names the interpreter that the quantizer lies in: the
process becomes that one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from workers import peak_rss_mb

TARGET = "a100"


def by_dsedge(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The whole compilation for TensorRT; `seconds` are those from the model to the Q/DQ graphs."""
    import quantizers

    quantizers.TARGET = TARGET
    result = quantizers.by_dsedge(model, calibration, artifact, {"runtime": "tensorrt", **options})
    shutil.copy(Path("bundle", "model.fp16.onnx"), artifact.with_suffix(".fp16.onnx"))
    return result


def by_modelopt(model: Path, calibration: Path, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`modelopt.onnx.quantization.quantize` in INT8, calibrated on the CPU."""
    import numpy as np
    from modelopt.onnx.quantization import quantize

    start = time.perf_counter()
    with np.load(calibration, allow_pickle=False) as data:
        samples = {name: data[name] for name in data.files}
    quantize(
        str(model),
        quantize_mode="int8",
        calibration_data=samples,
        calibration_eps=["cpu"],
        output_path=str(artifact),
        log_level="ERROR",
        **options,
    )
    return {"seconds": time.perf_counter() - start}


TOOLS = {"dsedge": by_dsedge, "modelopt": by_modelopt}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True, type=json.loads)
    job = parser.parse_args().job
    if python := job.pop("python", None):
        os.execv(python, [python, __file__, "--job", json.dumps(job)])
    model, calibration, artifact = (Path(job[name]) for name in ("model", "calibration", "artifact"))
    result = TOOLS[job["tool"]](model, calibration, artifact, job["options"])
    print(json.dumps({"notes": [], **result, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
