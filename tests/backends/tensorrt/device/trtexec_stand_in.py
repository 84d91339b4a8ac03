"""A stand-in for trtexec: it knows the options of a version, fails on any other, and writes files. It is no TensorRT.

Version by TRTEXEC_VERSION ("8502"), the GPU's compute capability by TRTEXEC_GPU, a failure by TRTEXEC_FAILS, the graph
that it cannot parse by TRTEXEC_CANNOT_PARSE, the number of DLA cores by DLA_CORES.

Options of 8.5 are those that `samples/common/sampleOptions.cpp` of NVIDIA/TensorRT prints at release 8.4 (8.5 added to
them), with `--buildOnly`; 8.6 added `--skipInference`, `--builderOptimizationLevel` and others (the same file at 8.6).
Options of 10 are those of a recorded `trtexec --help` of 10.6.0 (its first line: "&&&& RUNNING TensorRT.trtexec
[TensorRT v100600] [b26] # trtexec --help"). What 11 removed: "Migrating trtexec Usage from TensorRT 10.x to 11.x" in
its documentation; `--stronglyTyped` does nothing there, and is refused here, so that nothing depends on it. First lines
of 8.5.2 ("[TensorRT v8502]"), 10.3 ("[TensorRT v100300]") and 11.1 ("[TensorRT v110100] [b106]"): published logs.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

V85 = """
--onnx --model --deploy --output --uff --uffInput --uffNHWC --maxBatch --minShapes --optShapes --maxShapes
--minShapesCalib --optShapesCalib --maxShapesCalib --inputIOFormats --outputIOFormats --workspace --memPoolSize
--profilingVerbosity --minTiming --avgTiming --refit --sparsity --noTF32 --fp16 --int8 --best --directIO
--precisionConstraints --layerPrecisions --layerOutputTypes --calib --safe --consistency --restricted --saveEngine
--loadEngine --tacticSources --noBuilderCache --timingCacheFile --batch --shapes --loadInputs --iterations --warmUp
--duration --sleepTime --idleTime --streams --exposeDMA --noDataTransfers --useManagedMemory --useSpinWait --threads
--useCudaGraph --timeDeserialize --timeRefit --separateProfileRun --buildOnly --verbose --avgRuns --percentile
--dumpRefit --dumpOutput --dumpProfile --dumpLayerInfo --exportTimes --exportOutput --exportProfile --exportLayerInfo
--device --useDLACore --allowGPUFallback --plugins --help
""".split()
V86 = [*V85, *"--skipInference --builderOptimizationLevel --buildDLAStandalone --preview --fp8 --tempdir".split()]
GONE_IN_10 = (
    "--model --deploy --output --uff --uffInput --uffNHWC --maxBatch --batch --workspace --minTiming --consistency"
    " --buildOnly --preview"
).split()
V10 = [o for o in V86 if o not in GONE_IN_10] + "--bf16 --int4 --stronglyTyped --stripWeights --maxAuxStreams".split()
GONE_IN_11 = (
    "--fp16 --int8 --bf16 --fp8 --int4 --best --calib --minShapesCalib --optShapesCalib --maxShapesCalib"
    " --precisionConstraints --layerPrecisions --layerOutputTypes --stronglyTyped"
).split()
V11 = [o for o in V10 if o not in GONE_IN_11]
KNOWN = {
    "8502": V85,
    "8601": V86,
    "100300": V10,
    "100600": V10,
    "110100": V11,
    "110400": V11,
    "8401": V85,
    "120000": V11,
}


def main() -> int:
    version, arguments = os.environ["TRTEXEC_VERSION"], sys.argv[1:]
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec {' '.join(arguments)}")
    if arguments == ["--help"]:
        print("\n".join(f"  {option}" for option in KNOWN[version]))
        return 0
    given = {}
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option not in KNOWN[version] or option in given:
            print(f"[E] Unknown option: {argument}")
            return 1
        given[option] = value
    Path("arguments.json").write_text(json.dumps(arguments))
    print(
        '[I] === Device Information ===\n[I] Selected Device: A "GPU"\n[I] Compute Capability: '
        + os.environ["TRTEXEC_GPU"]
    )
    Path(given["--onnx"]).read_bytes()
    if not {"--skipInference", "--buildOnly"} & given.keys():
        return 1
    if given["--onnx"] == os.environ.get("TRTEXEC_CANNOT_PARSE"):
        print('[E] [TRT] ModelImporter.cpp:949: While parsing node "n": opset 22\n[E] Failed to parse onnx file')
        print("[E] Parsing model failed\n[E] Failed to create engine from model or file.\n[E] Engine set up failed")
        return 1
    cores = int(os.environ.get("DLA_CORES", "0"))
    if int(given.get("--useDLACore", "-1")) >= cores:
        print(f"[E] Cannot create DLA engine, {given['--useDLACore']} not available\n[E] Building engine failed")
        return 1
    layers = {"Layers": [{"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Int8"}]}]}
    Path(given["--exportLayerInfo"]).write_text(json.dumps(layers))
    fails = os.environ.get("TRTEXEC_FAILS", "")
    if fails == "open axes":
        print("[W] Dynamic dimensions required for input: x, but no shapes were provided.", end=" ")
        print("Automatically overriding shape to: 1")
    if fails == "crash":
        Path(given["--saveEngine"]).write_bytes(b"half")
        print("[E] Error[2]: out of memory")
        return 1
    Path(given["--saveEngine"]).write_bytes(b"" if fails == "empty" else b"engine")
    Path(given["--timingCacheFile"]).write_bytes(b"cache")
    return 0


sys.exit(main())
