"""Verifies and times this bundle's engine on the device, and writes device.json for the machine that compiled it.

python3 verify.py                   golden outputs, INT8 coverage, latency
python3 verify.py --compare         latency against float16 and float32 engines too, built where they are missing

`dsedge verify BUNDLE` reads device.json back, once it is copied into the bundle there. Where the golden
outputs are off it is taken away, and this ends with 3; what else goes wrong ends with 2, and leaves it as it was.
Status is "measured" on the target itself, else "verified", and the reason is said.
"""

import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys

import numpy as np
import run as runner
import trt_conditions
import trt_layers
import trt_runtime
import trt_target
from trt_files import publish, script, sha256
from trt_rules import OFF

FLOATS = ("fp16", "fp32")
WARMUP = 20
TIMING = {
    "warmup": WARMUP,
    "order": "one run of each engine in turn",
    "device": "CUDA events around the run of the engine, without copies",
    "host": "the host's clock around copies from and to pageable memory and the run",
}


def floats(folder, settings, gpu):
    """Precision -> engine to compare with, and for each that could not be built the reason.

    They are built where they are missing, and as the own one was: on which GPU, with TF32 or without.
    """
    found, missing = {}, []
    record = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    there = gpu["compute_capability"] == settings["target"]["compute_capability"]
    options = ([] if there else ["--any-gpu"]) + ([] if record["tf32_allowed"] else ["--no-tf32"])
    for precision in (each for each in FLOATS if each != settings["precision"]):
        plan = folder / f"engine.{precision}.plan"
        if not (trt_runtime.is_current(plan) and _as(plan, record)):
            command = [sys.executable, str(folder / "build.py"), "--precision", precision, *options]
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if ended.returncode:
                said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
                missing.append("not compared with {}: {}".format(precision, said[-1][:500] if said else "no engine"))
                continue
        found[precision] = plan
    return found, missing


def _as(plan, record):
    """Whether an engine was built by the TensorRT that built another, and with TF32 or without as that was."""
    other = json.loads(plan.with_suffix(".json").read_text(encoding="utf-8"))
    return all(other[key] == record[key] for key in ("tensorrt", "tf32_allowed"))


def in_usual_shape(array, profile):
    """A sample cut, or repeated, to the shape that the engine is tuned for."""
    for axis, length in enumerate(profile["opt"] if profile else ()):
        array = np.take(array, np.arange(length) % array.shape[axis], axis)
    return array


def golden_is_near(found, engine, recorded):
    """Whether outputs are those of the graph; where they are not both are printed."""
    wanted = engine.expected(recorded["golden_sqnr_db"])
    near = runner.close_enough(found["sqnr_db"], wanted, found["numbers"])
    near = near and runner.agrees(found["agreement"], recorded["golden_agreement"])
    if not near:
        print(json.dumps(dict(found, expected=wanted)))
    return near


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="time float engines in turns with this one")
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each engine (default 200)")
    args = parser.parse_args()
    if args.runs < 10:
        parser.error("--runs: at least 10")
    folder = pathlib.Path(__file__).resolve().parent
    settings, manifest = (json.loads((folder / n).read_text(encoding="utf-8")) for n in ("build.json", "manifest.json"))
    with np.load(str(folder / "golden.npz"), allow_pickle=False) as data:
        golden = dict(data)
    inputs = manifest["model"]["inputs"]

    own = trt_runtime.load(folder / "engine.plan")
    found = runner.compare(golden, own, inputs)
    if not golden_is_near(found, own, manifest["fidelity"]):
        (folder / "device.json").unlink(missing_ok=True)  # of an earlier run
        off = "verify.py: the golden outputs are off: the engine computes something else than the graph"
        print(off, file=sys.stderr)
        return OFF

    plans, missing = floats(folder, settings, own.gpu) if args.compare else ({}, [])
    opened = {settings["precision"]: own, **{precision: trt_runtime.load(plan) for precision, plan in plans.items()}}
    before = trt_conditions.conditions()
    samples = {spec["name"]: golden[f"input_{i}"][0] for i, spec in enumerate(inputs)}
    feeds = {name: in_usual_shape(array, settings["profiles"].get(name)) for name, array in samples.items()}
    times = runner.time_alternately(list(opened.values()), feeds, args.runs, WARMUP)
    after = trt_conditions.conditions()
    latency = {
        precision: {
            "host": trt_runtime.percentiles(mine),
            "device": trt_runtime.percentiles(engine.device_ms[-args.runs :]),
        }
        for (precision, engine), mine in zip(opened.items(), times)
    }
    layers = trt_layers.read_layers((folder / "engine.layers.json").read_text(encoding="utf-8"))
    codes, others, unknown = trt_layers.coverage(layers, settings["int8_nodes"])
    record = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    gpu = {key: own.gpu[key] for key in ("name", "compute_capability", "model", "memory_mib")}
    differs = trt_target.differences(settings["target"], gpu, own.tensorrt)
    differs = ["this is not the target: {}".format("; ".join(differs))] if differs else []
    seen = ("build.json", "golden.npz", record["graph"]["file"], "engine.plan")
    result = {
        "schema": 1,
        "status": "verified" if differs else "measured",
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seen": {name: sha256(folder / name) for name in seen},
        "tensorrt": own.tensorrt,
        "made_by": record["made_by"],
        "gpu": gpu,
        "os": f"{platform.platform()} {platform.machine()}",
        "flags": record["flags"],
        "tf32": record["tf32"],
        "build_seconds": record["seconds"],
        "golden": found,
        "int8": codes,
        "not_int8": others,
        "unknown": unknown,
        "dla": record["dla"],
        "latency": latency,
        "timing": dict(TIMING, shapes={name: list(array.shape) for name, array in feeds.items()}),
        "conditions": {"before": before, "after": after},
        "warnings": record["warnings"] + differs + missing,
    }
    publish({folder / "device.json": json.dumps(result, indent=1, allow_nan=False).encode("utf-8")})
    print("{}: {}".format(result["status"], trt_layers.told(result, settings["int8_nodes"])))
    for precision, both in latency.items():
        text = "{}: median {:.3f} ms on the GPU, {:.3f} ms with copies"
        print(text.format(precision, both["device"]["median_ms"], both["host"]["median_ms"]))
    for line in differs + missing:
        print(line)
    return 0


if __name__ == "__main__":
    script("verify.py", main)
