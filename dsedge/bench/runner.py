"""Runs a bundle on the device it lies on. Needs numpy and the bundle's runtime, nothing else.

python run.py                                compare the golden outputs
python run.py --input x.npz --output y.npz   run on your own data
python run.py --bench --runs 200 --threads 1 latency, as JSON
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time

import numpy as np


def load_onnxruntime(path, threads=None):
    """Open an ONNX file; returns a function from {input: array} to a list of arrays."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # nothing is reported from the device
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


LOADERS = {"onnxruntime": load_onnxruntime}


def difference(reference, other):
    """The elements of the reference that are finite, and how far the other is from them.

    Where both are not finite in the same way they do not count; where only one is, or the shapes differ, the
    difference is infinite.
    """
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if reference.shape != other.shape:
        return reference.ravel(), np.full(max(reference.size, 1), np.inf)
    same = ~np.isfinite(reference) & ((reference == other) | (np.isnan(reference) & np.isnan(other)))
    reference, other = reference[~same], other[~same]
    off = np.full(reference.shape, np.inf)
    finite = np.isfinite(reference) & np.isfinite(other)
    off[finite] = np.abs(reference[finite] - other[finite])
    return reference, off


def sqnr(reference, other):
    """Signal-to-quantization-noise ratio in dB; None when identical, -300 when one is not finite where the other is."""
    signal, noise = (float(np.sum(x**2)) for x in difference(reference, other))
    if noise == 0.0:
        return None
    if not np.isfinite(signal) or not np.isfinite(noise):
        return -300.0
    return float(10 * np.log10(max(signal, 1e-300) / noise))


def compare(golden, run, inputs):
    """Run the golden inputs.

    Returns:
        `sqnr_db`: of each output against the float model, None where identical or not of floats;
        `max_abs_from_expected`; and `agreement`: the share of equal numbers in the integer outputs, None without any.
    """
    kept = sorted(int(k[len("expected_") :]) for k in golden if k.startswith("expected_"))
    got, results = {i: [] for i in kept}, []
    for sample in range(len(golden["input_0"])):
        results = run({spec["name"]: golden[f"input_{i}"][sample] for i, spec in enumerate(inputs)})
        for i in kept:
            got[i].append(results[i])
    # A float output that the golden file does not hold proves nothing, so it fails.
    ratios = [-300.0 if getattr(a, "dtype", np.dtype(object)).kind == "f" else None for a in results] if kept else []
    largest, equal = 0.0, []
    for i in kept:
        mine, expected = np.stack(got[i]), golden[f"expected_{i}"]
        if not np.issubdtype(mine.dtype, np.floating):
            equal.append(float(np.mean(mine == expected)) if mine.size else 1.0)
            continue
        ratios[i] = sqnr(golden[f"float_{i}"], mine)
        off = float(np.max(difference(expected, mine)[1], initial=0.0))
        largest = max(largest, off if np.isfinite(off) else 1e300)
    return {"sqnr_db": ratios, "max_abs_from_expected": largest, "agreement": min(equal) if equal else None}


def close_enough(reached, recorded, margin_db=3.0, agreement=None):
    """Whether every output is as near to the float model's as was recorded, to within a margin; over 60 dB always is.

    Under 15 dB a network multiplies every rounding on its way, and the margin is 10 dB at least. Integer outputs, class
    ids mostly, must agree in half of their numbers: what is close in score may change places.

    Args:
        reached: SQNR of each output in dB, None where identical.
        recorded: what they should reach.
        margin_db: how much less is enough.
        agreement: the share of equal numbers in the integer outputs, or None.
    """
    for mine, other in zip(reached, recorded):
        margin = margin_db if other is None or other >= 15.0 else max(margin_db, 10.0)
        if mine is not None and mine < 60.0 and (other is None or mine < other - margin):
            return False
    return agreement is None or agreement >= 0.5


def time_alternately(runs_of, feeds, count, warmup=5):
    """Time several functions in turns, so that a machine's drift falls on all of them alike.

    Args:
        runs_of: functions from feeds to outputs.
        feeds: the input.
        count: timed runs of each.
        warmup: runs of each before.

    Returns:
        A list of `count` times in milliseconds for each function.
    """
    times = [[] for _ in runs_of]
    for _ in range(warmup):
        for run in runs_of:
            run(feeds)
    for _ in range(count):
        for run, mine in zip(runs_of, times):
            start = time.perf_counter()
            run(feeds)
            mine.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", help=".npz with an array for each input")
    parser.add_argument("--output", help=".npz to write the outputs to")
    parser.add_argument("--bench", action="store_true", help="measure the latency of one inference")
    parser.add_argument("--runs", type=int, default=100, help="timed runs (default 100)")
    parser.add_argument("--threads", type=int, default=None, help="threads (default: the runtime's)")
    args = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    manifest = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
    name = next(f["path"] for f in manifest["files"] if f["role"] == "model")
    inputs = manifest["model"]["inputs"]
    run = LOADERS[manifest["runtime"]["name"]](here / name, args.threads)
    if args.input:
        with np.load(args.input, allow_pickle=False) as data:
            results = run({spec["name"]: data[spec["name"]] for spec in inputs})
        named = dict(zip([spec["name"] for spec in manifest["model"]["outputs"]], results))
        if args.output:
            np.savez(args.output, **named)
        print(json.dumps({k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in named.items()}))
        return 0
    with np.load(here / "golden.npz", allow_pickle=False) as data:
        golden = dict(data)
    if args.bench:
        feeds = {spec["name"]: golden[f"input_{i}"][0] for i, spec in enumerate(inputs)}
        (times,) = time_alternately([run], feeds, args.runs)
        result = {"median_ms": float(np.median(times)), "p90_ms": float(np.percentile(times, 90)), "runs": args.runs}
        print(json.dumps(dict(result, threads=args.threads, machine=platform.machine())))
        return 0
    found = compare(golden, run, inputs)
    good = bool(found["sqnr_db"]) and close_enough(
        found["sqnr_db"], manifest["fidelity"]["golden_sqnr_db"], agreement=found["agreement"]
    )
    print(json.dumps(dict(found, passed=good)))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
