"""Builds the engine of this bundle on the device that it is for. Needs TensorRT 8.5 to 11, and nothing of dsedge.

python3 build.py                    build engine.plan, and record how in engine.json
python3 build.py --precision fp16   an engine to compare with, engine.fp16.plan (fp32 likewise): the same graph without
                                    its quantizers, or the bundle's float graph where it has one
python3 build.py --dla 0            on core 0 of the deep learning accelerator of a Xavier, Orin NX or AGX Orin; what it
                                    cannot compute the GPU does. Fixed shapes only. dsedge never ran on one.
python3 build.py --no-tf32          float32 products are not rounded to TF32, which GPUs from 8.0 on do by default
python3 build.py --any-gpu          on a GPU of another compute capability than the target's

Python's tensorrt module builds; where it is missing, `build.sh` does by `trtexec`. Settings are in build.json:

schema                1
target                {"name": of the board, "compute_capability": "8.7", "device_name": what the device calls itself,
                      "memory_mib": that its GPU can use, "tensorrt": ">=10.3,<10.4"}; the last three may be null
precision             of engine.plan: "int8" (the rest in float16), "fp16", "bf16", "fp32" or "int4"
graphs                [{"file", "sha256", "precision", "typing", "golden_sqnr_db"}]; typing "weak": float32, and builder
                      flags say which precisions are allowed, "strong": the graph says all of them. A file may stand
                      for several. The last: of each output on the golden samples, null: as the manifest says.
outputs               names of the model's outputs, in order
dynamic               names of the inputs that have open axes
profiles              {input: {"min": shape, "opt": shape, "max": shape}}, one for each of `dynamic`
workspace_mib         the most memory that a kernel may use beside its tensors; null: what the GPU has
sparsity              true where weights are pruned 2 of 4: kernels that skip zeros are tried
tf32                  true where float32 products may be rounded to TF32, on a GPU that has it
fp16                  false where float16 was tried and loses too much: weakly typed engines do without
float32_nodes         names of the graph's nodes that weakly typed engines keep in float32, and what they make
int8_nodes            names of the graph's nodes that were planned as INT8

`build.conf` says the same to build.sh, a line for each setting.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

import trt_builder
import trt_layers
from trt_cuda import Cuda
from trt_files import Refused, publish, script, sha256
from trt_rules import TYPINGS

# 10.7 was the last one with a DLA before 11.4 ("Working with DLA"). Before 11 it has builder flags only.
DLA_TYPINGS = (((8, 5), ("weak",)), ((10, 8), ()), ((11, 4), ("strong",)), ((12, 0), ()))
# Engines to compare with, of the graphs for INT8: typing of the engine -> of the graph. Only the one is float32.
FLOATS = {"fp16": {"strong": "strong", "weak": "weak"}, "fp32": {"strong": "weak", "weak": "weak"}}

DETAILS = "layers.json"
UNVERIFIED = "unverified: dsedge never ran on a DLA; that of TensorRT 8.5 takes no Q/DQ, which then runs on the GPU"


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


def candidates(settings, precision, version):
    """The graphs to build from, the preferred first; a later one is for a parser that does not read it.

    Raises:
        Refused: the bundle has none that this TensorRT reads.
    """
    if precision == "fp16" and not settings["fp16"]:
        raise Refused("float16 was tried where this was compiled, and loses too much: see the notes in report.html")
    allowed, found = typings(version, settings["dla"] is not None), []
    for typing in allowed:
        own = [g for g in settings["graphs"] if (g["precision"], g["typing"]) == (precision, typing)]
        stored = FLOATS.get(precision, {}).get(typing)
        floats = [g for g in settings["graphs"] if (g["precision"], g["typing"]) == ("int8", stored)]
        found += [dict(g, floats=False) for g in own]
        found += [dict(g, floats=True, precision=precision, typing=typing) for g in floats if not own]
    if found:
        return found
    has = sorted("{} ({}, {})".format(g["file"], g["precision"], g["typing"]) for g in settings["graphs"])
    raise Refused(
        "no graph for {} that TensorRT {} reads ({} typing); the bundle has {}".format(
            precision, ".".join(map(str, version)), " or ".join(allowed), ", ".join(has)
        )
    )


def check(folder, graph):
    """Refuse a graph that is missing or another one."""
    path = folder / graph["file"]
    if not path.is_file():
        raise Refused("{} is missing: copy the whole bundle".format(graph["file"]))
    if sha256(path) != graph["sha256"]:
        raise Refused("{} is not the file that was compiled: copy the bundle again".format(graph["file"]))


def check_shapes(settings):
    """Refuse open axes without a profile, and on the DLA."""
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


def uses_tf32(settings, gpu):
    """Whether float32 products may be rounded to TF32: it is allowed, and the GPU has it."""
    allowed = settings["tf32"] and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return allowed and numbers(gpu["compute_capability"]) >= (8, 0)


def numbers(text):
    """A version as numbers: "10.3.0.26" -> (10, 3, 0, 26)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def name_of(settings, precision):
    """Stem of an engine's files."""
    return "engine" if precision == settings["precision"] else f"engine.{precision}"


def by_module(trt, folder, settings, precision):
    """Build with Python's tensorrt.

    Returns:
        The engine's record, and the files that are to be written: name -> bytes.
    """
    start, warnings, cached = time.time(), [], folder / "timing.cache"
    cache = cached.read_bytes() if cached.is_file() else b""
    choices = candidates(settings, precision, numbers(trt.__version__))
    for graph in choices:
        check(folder, graph)
        try:
            made = trt_builder.build(trt, folder / graph["file"], settings, graph, cache)
            break
        except trt_builder.Unreadable as error:
            if graph is choices[-1]:
                raise Refused("; ".join([*warnings, str(error)])) from None
            warnings.append(str(error))
    plan, cache, details, flags, said = made
    stem = name_of(settings, precision)
    if warnings:
        warnings.append("{}.plan is built from {}, {} typed".format(stem, graph["file"], graph["typing"] + "ly"))
    files = {stem + ".plan": bytes(plan), stem + "." + DETAILS: details.encode("utf-8"), "timing.cache": bytes(cache)}
    record = {
        "schema": 1,
        "made_by": "tensorrt",
        "tensorrt": trt.__version__,
        "flags": flags + (["STRONGLY_TYPED"] if graph["typing"] == "strong" else []),
        "seconds": round(time.time() - start, 1),
        "graph": {"file": graph["file"], "sha256": graph["sha256"]},
        "warnings": warnings + said,
    }
    return record, files


def by_trtexec(folder, settings, precision, any_gpu):
    """Build with build.sh, which writes the files; returns the engine's record."""
    if precision != settings["precision"]:
        raise Refused("an engine to compare with needs Python's tensorrt")
    command = ["sh", str(folder / "build.sh")]
    command += ["--any-gpu"] if any_gpu else []
    command += [] if settings["tf32"] else ["--no-tf32"]
    command += [] if settings["dla"] is None else ["--dla", str(settings["dla"])]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return json.loads((folder / "engine.json").read_text(encoding="utf-8"))


def finished(folder, settings, precision, record, details):
    """The record with what the layers say.

    Raises:
        Refused: an engine to compare with computes in INT8.
    """
    layers = trt_layers.read_layers(details)
    codes, others, unknown = trt_layers.coverage(layers, settings["int8_nodes"])
    if precision != settings["precision"] and codes:
        raise Refused("{} nodes of the engine in {} compute in INT8".format(len(codes), precision))
    planned = settings["int8_nodes"] if precision == settings["precision"] else []
    return dict(
        record,
        precision=precision,
        settings=sha256(folder / "build.json"),
        layers=len(layers),
        int8=codes,
        not_int8={name: others[name] for name in planned if name in others},
        unknown={name: unknown[name] for name in planned if name in unknown},
        dla=dict(trt_layers.dla(layers), core=settings["dla"]),
        os=f"{platform.platform()} {platform.machine()}",
    )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="of an engine to compare with (default: the bundle's own)")
    parser.add_argument("--dla", type=int, metavar="CORE", help="core of the deep learning accelerator")
    parser.add_argument("--no-tf32", action="store_true", help="do not round float32 products to TF32")
    parser.add_argument("--any-gpu", action="store_true", help="build though the GPU is not the target's")
    args = parser.parse_args()
    if args.dla is not None and args.dla < 0:
        parser.error("--dla: the number of a core")
    folder = pathlib.Path(__file__).resolve().parent
    settings = json.loads((folder / "build.json").read_text(encoding="utf-8"))
    settings.update(dla=args.dla, tf32=settings["tf32"] and not args.no_tf32)
    precision = args.precision or settings["precision"]
    check_shapes(settings)
    gpu = Cuda().gpu()
    warnings = check_gpu(settings, gpu, args.any_gpu)
    warnings += [UNVERIFIED] if args.dla is not None else []
    stem = name_of(settings, precision)
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        print(f"build.py: Python's tensorrt does not load ({error}); trtexec is tried", file=sys.stderr)
        record, files = by_trtexec(folder, settings, precision, args.any_gpu), {}
        details = (folder / (stem + "." + DETAILS)).read_text(encoding="utf-8")
    else:
        record, files = by_module(tensorrt, folder, settings, precision)
        details = files[stem + "." + DETAILS].decode("utf-8")
    record = dict(record, gpu=gpu, tf32=uses_tf32(settings, gpu), tf32_allowed=settings["tf32"])
    record["warnings"] = list(dict.fromkeys(warnings + record["warnings"]))
    record = finished(folder, settings, precision, record, details)
    if files:
        record["engine"] = {"file": stem + ".plan", "sha256": hashlib.sha256(files[stem + ".plan"]).hexdigest()}
    files[stem + ".json"] = json.dumps(record, indent=1).encode("utf-8")
    publish({folder / name: data for name, data in files.items()})
    print("{}: {}".format(stem + ".plan", trt_layers.told(record, settings["int8_nodes"])))
    return 0


if __name__ == "__main__":
    script("build.py", main)
