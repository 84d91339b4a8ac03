"""Verifies and times this bundle's engine on the device, and writes device.json for the machine that compiled it.

python verify.py                   golden outputs, INT8 coverage, latency
python verify.py --compare         latency against float16 and float32 engines too, built where they are missing

`dsedge verify BUNDLE` reads device.json back, once it is copied into the bundle there. Nothing is written when the
golden outputs are off. Status is "measured" on a GPU of the target's compute capability, else "verified".
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
from build import publish, sha256

FLOATS = ("fp16", "fp32")


def engines(folder, settings, compare):
    """Precision -> engine file, the bundle's own first; engines to compare with are built where they are missing."""
    found = {settings["precision"]: folder / "engine.plan"}
    for precision in FLOATS if compare else ():
        if any(graph["precision"] == precision for graph in settings["graphs"]):
            plan = folder / f"engine.{precision}.plan"
            if precision not in found and not plan.with_suffix(".json").is_file():
                command = [sys.executable, str(folder / "build.py"), "--precision", precision]
                record = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
                if record["gpu"]["compute_capability"] != settings["target"]["compute_capability"]:
                    command.append("--any-gpu")  # as the engine was that it is compared with
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            found.setdefault(precision, plan)
    return found


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="time float engines in turns with this one")
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each engine (default 200)")
    args = parser.parse_args()
    if args.runs < 10:
        parser.error("--runs: at least 10")
    folder = pathlib.Path(__file__).resolve().parent
    (folder / "device.json").unlink(missing_ok=True)
    settings, manifest = (json.loads((folder / n).read_text(encoding="utf-8")) for n in ("build.json", "manifest.json"))
    with np.load(str(folder / "golden.npz"), allow_pickle=False) as data:
        golden = dict(data)
    inputs, recorded = manifest["model"]["inputs"], manifest["fidelity"]

    plans = engines(folder, settings, args.compare)
    opened = {precision: trt_runtime.load(plan) for precision, plan in plans.items()}
    own = opened[settings["precision"]]
    found = runner.compare(golden, own, inputs)
    near = runner.close_enough(found["sqnr_db"], recorded["golden_sqnr_db"], found["numbers"])
    if not near or not runner.agrees(found["agreement"], recorded["golden_agreement"]):
        print(json.dumps(dict(found, recorded=recorded["golden_sqnr_db"])))
        raise RuntimeError("the golden outputs are off: the engine computes something else than the graph")

    layers = trt_layers.read_layers((folder / "engine.layers.json").read_text(encoding="utf-8"))
    codes, others = trt_layers.coverage(layers, settings["int8_nodes"])
    before = trt_conditions.conditions()
    feeds = {spec["name"]: golden[f"input_{i}"][0] for i, spec in enumerate(inputs)}
    times = runner.time_alternately(list(opened.values()), feeds, args.runs)
    latency = {
        precision: {
            "host": trt_runtime.percentiles(mine),
            "device": trt_runtime.percentiles(engine.device_ms[-args.runs :]),
        }
        for (precision, engine), mine in zip(opened.items(), times)
    }
    record = json.loads((folder / "engine.json").read_text(encoding="utf-8"))
    there = record["gpu"]["compute_capability"] == settings["target"]["compute_capability"]
    seen = ("build.json", "golden.npz", record["graph"]["file"], "engine.plan")
    result = {
        "schema": 1,
        "status": "measured" if there else "verified",
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seen": {name: sha256(folder / name) for name in seen},
        "tensorrt": record["tensorrt"],
        "made_by": record["made_by"],
        "gpu": {key: record["gpu"][key] for key in ("name", "compute_capability")},
        "os": f"{platform.platform()} {platform.machine()}",
        "flags": record["flags"],
        "build_seconds": record["seconds"],
        "golden": found,
        "int8": codes,
        "not_int8": others,
        "dla": trt_layers.dla(layers),
        "latency": latency,
        "conditions": {"before": before, "after": trt_conditions.conditions()},
        "warnings": record["warnings"],
    }
    publish(folder / "device.json", json.dumps(result, indent=1, allow_nan=False).encode("utf-8"))
    print("{}: {} of {} planned nodes in INT8".format(result["status"], len(codes), len(settings["int8_nodes"])))
    for precision, both in latency.items():
        text = "{}: median {:.3f} ms on the GPU, {:.3f} ms with copies"
        print(text.format(precision, both["device"]["median_ms"], both["host"]["median_ms"]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ImportError, OSError, RuntimeError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(f"verify.py: {error}", file=sys.stderr)
        sys.exit(2)
