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
import re
import sys
import time

import numpy as np


def as_array(output):
    """An output as one array: the elements of a sequence one behind the other, the values of a map by their keys."""
    if isinstance(output, dict):
        return np.array([output[key] for key in sorted(output)])
    if isinstance(output, list):
        return np.concatenate([as_array(part).ravel() for part in output]) if output else np.zeros(0)
    if output is None:  # an optional that is empty
        return np.zeros(0)
    array = np.asarray(output)
    return array.astype(np.str_) if array.dtype.kind == "O" else array


_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from \S+ failed: ?)?")


def first_line(error):
    """The first line of a message that says something, without what only the runtime's developers read.

    OpenVINO begins with places in its source, each on a line that ends with a colon.
    """
    lines = str(error).strip().splitlines()
    told = next((line for line in lines if not line.rstrip().endswith(":")), "".join(lines[:1]))
    return _PREFIX.sub("", told)[:300] or type(error).__name__


def misfit(takes, feeds):
    """What of the inputs does not fit a model, None when all does.

    Args:
        takes: input -> its dtype as numpy calls it, and its shape, in which an open axis is no number.
        feeds: input -> array.
    """
    if feeds.keys() != takes.keys():
        return "the model takes the inputs {}, not {}".format(*map(sorted, (takes, feeds)))
    for name, (dtype, shape) in takes.items():
        array = np.asarray(feeds[name])
        fits = len(shape) == array.ndim and all(a == b for a, b in zip(shape, array.shape) if isinstance(a, int))
        if array.dtype != dtype or not fits:
            axes = ", ".join(str("?" if axis is None else axis) for axis in shape)
            return f"input {name!r}: the model takes {dtype} [{axes}], not {array.dtype} {list(array.shape)}"
    return None


def load_onnxruntime(path, threads=None):
    """Open an ONNX file; returns a function from {input: array} to a list of arrays, as `as_array` makes them.

    Its attribute `conditions` says what the runtime was told, as the session reads it back.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # nothing is reported from the device
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("ONNX Runtime is missing: pip install onnxruntime") from None

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # On x86 the runtime makes signed codes unsigned, which can fail from opset 21 on; on ARM it leaves them.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception:
            raise error from None  # what the runtime says of the file as it is loaded everywhere else

    def run(feeds):
        try:
            outputs = session.run(None, feeds)
        except Exception as error:  # its exceptions have no type in common
            takes = {put.name: (_dtype_of(put.type), put.shape) for put in session.get_inputs()}
            raise ValueError(misfit(takes, feeds) or first_line(error)) from error
        return [as_array(output) for output in outputs]

    used = session.get_session_options()
    run.conditions = {
        "providers": ", ".join(session.get_providers()),
        "intra_op_threads": used.intra_op_num_threads,
        "graph_optimization": used.graph_optimization_level.name,
        "execution_mode": used.execution_mode.name,
    }
    return run


def _dtype_of(kind):
    """numpy's name for an element type of ONNX Runtime: "tensor(float)" is float32."""
    name = kind[len("tensor(") : -1]
    return {"float": "float32", "double": "float64", "string": "str"}.get(name, name)


def load_litert(path, threads=None):
    """Open a TFLite file; returns a function from {input: array} to a list of arrays.

    Inputs go by their names in the signature "serving_default", outputs come in the order of the file. An input that
    the file takes as codes may be given as real numbers or as codes; an output that is codes becomes real numbers.
    """
    interpreter = _litert_interpreter()(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    takes = interpreter.get_signature_runner("serving_default").get_input_details()
    sources = [(name, _codes_of(name, detail), detail["index"]) for name, detail in takes.items()]
    results = [(detail["index"], _parameters(detail)) for detail in interpreter.get_output_details()]

    def run(feeds):
        if feeds.keys() != takes.keys():
            raise ValueError("the model takes the inputs {}, not {}".format(*map(sorted, (takes, feeds))))
        interpreter.reset_all_variables()  # the state of a recurrent layer would last from run to run
        for name, convert, index in sources:
            interpreter.set_tensor(index, convert(feeds[name]))
        interpreter.invoke()
        return [_real(interpreter.get_tensor(index), parameters) for index, parameters in results]

    return run


def _litert_interpreter():
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            raise ImportError(
                "a TFLite runtime is missing: pip install ai-edge-litert (x86-64 and aarch64, Python 3.10 and later), "
                "or pip install tflite-runtime==2.14.0 'numpy<2' (armv7 too, Python 3.9 to 3.11)"
            ) from None
    return Interpreter


def _parameters(detail):
    """Scale and zero point of a tensor of codes, None of one of real numbers or plain integers."""
    scale, zero_point = detail["quantization"]
    return (np.float32(scale), np.float32(zero_point)) if scale else None


def _codes_of(name, detail):
    """A function that checks an array for an input, and quantizes it where the input is codes."""
    dtype, shape, parameters = np.dtype(detail["dtype"]), tuple(map(int, detail["shape"])), _parameters(detail)
    info = np.iinfo(dtype) if parameters else None

    def convert(array):
        array = np.asarray(array)
        if array.shape != shape or (array.dtype != dtype and (info is None or array.dtype.kind != "f")):
            wanted = f"{dtype} codes, or float," if info else dtype
            given = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"input {name!r}: the model takes {wanted} {list(shape)}, not {given}")
        if array.dtype == dtype:
            return array
        scale, zero_point = parameters
        codes = np.rint(array.astype(np.float32) / scale) + zero_point
        return np.clip(codes, info.min, info.max).astype(dtype)

    return convert


def _real(array, parameters):
    """An output, whose memory is its own: real numbers where it is codes."""
    if parameters is None:
        return array
    scale, zero_point = parameters
    return np.asarray(np.subtract(array, zero_point, dtype=np.float32) * scale)


def load_openvino(path, threads=None):
    """Open an OpenVINO model; returns a function from {input: array} to a list of arrays in the model's order.

    Its attribute `conditions` says what the plugin was told, as the compiled model reads it back.
    """
    compiled = compile_openvino(path, threads)
    request = compiled.create_infer_request()
    takes = {
        port.get_any_name(): (
            np.dtype(port.get_element_type().to_dtype()),
            [axis.get_length() if axis.is_static else None for axis in port.get_partial_shape()],
        )
        for port in compiled.inputs
    }

    def run(feeds):
        wrong = misfit(takes, feeds)  # the runtime would convert numbers of another type without a word
        if wrong:
            raise ValueError(wrong)
        try:
            request.infer(feeds, share_inputs=True)
        except RuntimeError as error:
            raise ValueError(first_line(error)) from error
        return [np.array(request.get_tensor(port).data) for port in compiled.outputs]

    run.conditions = {
        "inference_precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        "streams": compiled.get_property("NUM_STREAMS"),
        "inference_threads": compiled.get_property("INFERENCE_NUM_THREADS"),
        "performance_hint": str(compiled.get_property("PERFORMANCE_HINT")),
    }
    return run


OPENVINO_PRECISION = ["dsedge", "inference_precision"]
"""Where an OpenVINO model says "bf16" when its float operators are to compute in bfloat16."""


def compile_openvino(path, threads=None, profiled=False):
    """A model compiled for this CPU, for one request at a time.

    Float operators compute in float32, but where the model says bfloat16. The runtime's own default is bfloat16 on
    CPUs that have it, which rounds to three digits.
    """
    try:
        import openvino
    except ImportError:
        raise ImportError("OpenVINO is missing: pip install openvino") from None

    core = openvino.Core()
    model = core.read_model(str(path))
    asked = model.get_rt_info(OPENVINO_PRECISION).astype(str) if model.has_rt_info(OPENVINO_PRECISION) else ""
    precision = "bf16" if asked == "bf16" else "f32"
    config = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = str(threads)
    if profiled:
        config["PERF_COUNT"] = "YES"
    return core.compile_model(model, "CPU", config)


def load_tensorrt(path, threads=None):
    """Open the engine beside a graph, which `build.py` built; a module of the bundle does it."""
    from trt_runtime import load

    return load(path, threads)


LOADERS = {
    "onnxruntime": load_onnxruntime,
    "litert": load_litert,
    "openvino": load_openvino,
    "tensorrt": load_tensorrt,
}


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
    """Signal-to-quantization-noise ratio in dB; None when identical, -300 when one is not finite where the other is.

    Or when the shapes differ.
    """
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    return sqnr_of_samples([reference], [other]) if reference.shape == other.shape else -300.0


def sqnr_of_samples(reference, other):
    """SQNR of one output over samples, in dB; None where identical, not of floats, or of one length in no sample.

    Samples in which the lengths differ (the boxes that a suppression left, say) hold nothing to compare. It is -200
    at least, which a reference of zeros has, and -300 when one is not finite where the other is.
    """
    signal = noise = 0.0
    for a, b in zip(reference, other):
        if a.shape == b.shape and a.dtype.kind == "f":
            kept, off = difference(a, b)
            signal, noise = signal + float(np.vdot(kept, kept)), noise + float(np.vdot(off, off))
    if noise == 0.0:
        return None
    if not np.isfinite(signal) or not np.isfinite(noise):
        return -300.0
    return float(max(10 * np.log10(max(signal, 1e-300) / noise), -200.0))


def agreement(reference, other):
    """Share of one output that agrees, over samples: of equal elements, and for floats of equal shapes, 0 to 1."""
    shares = []
    for a, b in zip(reference, other):
        comparable = a.shape == b.shape
        shares.append(float(np.mean(a == b)) if comparable and a.size and a.dtype.kind != "f" else float(comparable))
    return float(np.mean(shares)) if shares else 1.0


def compare(golden, run, inputs):
    """Run the golden inputs.

    Returns:
        For each output: `sqnr_db`, against the float model, see `sqnr_of_samples`; whether it is `identical` to the
        float model's, which tells what no SQNR means; `agreement` with what was expected; and how many `numbers` they
        are. `max_abs_from_expected`: of all float outputs where lengths agree.
    """
    count = min(len(array) for array in golden.values())
    feeds = [{spec["name"]: np.asarray(golden[f"input_{i}"][n]) for i, spec in enumerate(inputs)} for n in range(count)]
    ratios, same, numbers, shares, largest = [], [], [], [], 0.0
    for i, mine in enumerate(zip(*map(run, feeds))):
        expected, reference = ([np.asarray(a) for a in golden[f"{kind}_{i}"]] for kind in ("expected", "float"))
        ratios.append(sqnr_of_samples(reference, mine))
        same.append(all(_is_same(a, b) for a, b in zip(reference, mine)))
        numbers.append(sum(a.size for a in mine))
        shares.append(agreement(expected, mine))
        for a, b in zip(expected, mine):
            if a.dtype.kind == "f" and a.shape == b.shape:
                largest = max(largest, float(np.max(difference(a, b)[1], initial=0.0)))
    largest = largest if np.isfinite(largest) else 1e300
    return {
        "sqnr_db": ratios,
        "identical": same,
        "numbers": numbers,
        "agreement": shares,
        "max_abs_from_expected": largest,
    }


def _is_same(a, b):
    """Whether arrays are equal, a NaN being equal to another; numpy says so itself from 1.19 on, JetPack 5 has 1.17."""
    return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))


def close_enough(reached, recorded, numbers, margin_db=3.0):
    """Whether every output is as near to the float model's as was recorded, to within a margin.

    What was recorded above 60 dB counts as 60 dB. Under 15 dB a network multiplies every rounding on its way, and the
    margin is 10 dB at least. Of few numbers an SQNR says little: two measurements of the same noise by n numbers each
    differ by less than 30 / sqrt(n) dB but once in a thousand times (the F distribution, for n of 4 and more).

    Args:
        reached: SQNR of each output in dB, None where there is none.
        recorded: what they should reach.
        numbers: how many numbers each SQNR was computed from.
        margin_db: how much less is enough.
    """
    for mine, other, count in zip(reached, recorded, numbers):
        other = 60.0 if other is None else min(other, 60.0)
        margin = (margin_db if other >= 15.0 else max(margin_db, 10.0)) + 30.0 / max(count, 1) ** 0.5
        if mine is not None and mine < other - margin:
            return False
    return True


def agrees(reached, recorded):
    """Whether each output agrees in half of what was recorded at least: what is close in score may change places."""
    return len(reached) == len(recorded) and all(mine >= other / 2 for mine, other in zip(reached, recorded))


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


def read_inputs(path, inputs):
    """The arrays of an .npz by the names of a model's inputs; others are left alone."""
    data = np.load(path, allow_pickle=False)
    if not isinstance(data, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} holds one array without a name: an .npz is wanted, with an array for each input")
    with data:
        names = [spec["name"] for spec in inputs]
        if not set(names) <= set(data.files):
            raise ValueError(
                f"{path} holds the arrays {sorted(data.files)}, the model takes the inputs {sorted(names)}"
            )
        return {name: data[name] for name in names}


def run_samples(run, feeds, inputs):
    """Run arrays as they are, or sample by sample where the model takes one and there are several.

    Outputs of samples are put together along their first axis where it is 1, else along a new one.
    """
    counts = {len(array) if array.ndim else 0 for array in feeds.values()}
    if counts <= {0, 1} or len(counts) > 1 or any((spec["shape"] or [None])[0] != 1 for spec in inputs):
        return run(feeds)
    rows = [run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(counts.pop())]
    return [(np.concatenate if outputs[0].shape[:1] == (1,) else np.stack)(outputs) for outputs in zip(*rows)]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about = ".npz with an array for each input, by its name, of the dtype and shape in manifest.json; where the first "
    about += "axis of all is 1 there, any number of samples along it"
    parser.add_argument("--input", help=about)
    parser.add_argument("--output", help=".npz to write the outputs to")
    parser.add_argument("--bench", action="store_true", help="measure the latency of one inference")
    parser.add_argument("--runs", type=int, default=100, help="timed runs (default 100)")
    parser.add_argument("--threads", type=int, default=None, help="threads (default: the runtime's)")
    args = parser.parse_args()
    if args.runs < 1:
        parser.error("--runs: at least 1")
    here = pathlib.Path(__file__).resolve().parent
    manifest = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
    name = next(f["path"] for f in manifest["files"] if f["role"] == "model")
    for file in manifest["files"]:
        if file["role"] == "model" and not (here / file["path"]).is_file():
            raise ValueError(f"{file['path']} is missing beside run.py: copy the whole bundle")
    inputs = manifest["model"]["inputs"]
    run = LOADERS[manifest["runtime"]["name"]](here / name, args.threads)
    if args.input:
        results = run_samples(run, read_inputs(args.input, inputs), inputs)
        named = dict(zip([spec["name"] for spec in manifest["model"]["outputs"]], results))
        if args.output:
            np.savez(args.output, **named)
        print(json.dumps({k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in named.items()}))
        return 0
    if not (here / "golden.npz").is_file():
        parser.error("golden.npz is missing beside run.py: copy the whole bundle")
    with np.load(here / "golden.npz", allow_pickle=False) as data:
        golden = dict(data)
    if args.bench:
        feeds = {spec["name"]: golden[f"input_{i}"][0] for i, spec in enumerate(inputs)}
        (times,) = time_alternately([run], feeds, args.runs)
        result = {"median_ms": float(np.median(times)), "p90_ms": float(np.percentile(times, 90)), "runs": args.runs}
        result.update(getattr(run, "conditions", {}))
        print(json.dumps(dict(result, threads=args.threads, machine=platform.machine())))
        return 0
    found = compare(golden, run, inputs)
    recorded = manifest["fidelity"]
    wanted = getattr(run, "expected", list)(recorded["golden_sqnr_db"])  # an engine that rounds more says so
    good = close_enough(found["sqnr_db"], wanted, found["numbers"]) and agrees(
        found["agreement"], recorded["golden_agreement"]
    )
    print(json.dumps(dict(found, passed=good)))
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # whatever the runtime raises: who runs this can mend the input, not the code
        print(f"run.py: {first_line(error)}", file=sys.stderr)
        sys.exit(2)
