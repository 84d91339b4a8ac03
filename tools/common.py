"""What the scripts in this folder share: the reference models, a small INT8 build, timing in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsedge.backends.base import Predict, load_backend
from dsedge.bench.runner import time_alternately
from dsedge.data import Batch
from dsedge.frontend import load
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.target import load_target

Feeds = Mapping[str, npt.NDArray[Any]]

ROOT = Path(__file__).resolve().parents[1]
HOST = "pos-x86"
"""The target whose contract is measured; this machine must have its instruction set."""


def export_untrained(name: str, folder: Path, *options: str) -> Path:
    """Write the ONNX file of a model that is not shipped as one, with options of its `export.py` such as `--static`."""
    path = folder / f"{name}.onnx"
    script = ROOT / "models" / name / "export.py"
    subprocess.run([sys.executable, str(script), str(path), *options], check=True, capture_output=True)
    return path


def sequence_samples(name: str, count: int, seed: int) -> Feeds:
    """Draw the inputs of gru, moe or an encoder by name, `count` along the first axis; token ids are 128 long."""
    sys.path.insert(0, str(ROOT))
    if name == "gru":
        from models.ds_cnn.generator import generate

        return {"log_mel": generate(count, seed)[0]}
    if name == "moe":
        from models.moe.export import samples

        return {"tokens": samples(count, seed)}
    from models.untrained_sequences import token_batches

    return token_batches(count, 128, seed)


def build_int8(source: Path, contract: Contract, feeds: Feeds, folder: Path, lifted: Sequence[str] = ()) -> Path:
    """Quantize a small model by a contract, calibrated with one sample, and build its artifact in `folder`.

    Args:
        source: the float ONNX file.
        contract: what is INT8.
        feeds: the sample.
        folder: to write to; empty.
        lifted: names of nodes that stay float whatever the contract says.

    Raises:
        SystemExit: nothing is INT8, or ONNX Runtime left a node in float that the contract has in INT8.
    """
    backend = load_backend("onnxruntime")
    model, _ = normalize(load(source))
    graph = model.graph.graph
    plan = annotate(graph, contract, lifted=dict.fromkeys(lifted, "measured in float"))
    values = [name for name in plan.values if name not in graph.initializers]
    observers, _ = calibrate(model.graph, values, [Batch(dict(feeds), 1, None)], "minmax")
    plan = assign_ranges(plan, graph, contract, observers, "minmax")
    artifact = backend.build(insert(model.graph, plan, contract), folder)
    audit = backend.audit(artifact, plan, load_target(HOST))
    if audit.unmatched or not audit.performed or not audit.int8_ops:
        raise SystemExit(f"{source.name}: {audit.summary}")
    return artifact.main


def time_in_turns(functions: Sequence[Predict], feeds: Feeds, seconds: float) -> npt.NDArray[np.float64]:
    """Time functions in rounds, each round in another order: what ran before a function changes how fast it is.

    Args:
        functions: from feeds to outputs.
        feeds: the input of all of them.
        seconds: for how long, roughly; at least 20 rounds and at most 5000.

    Returns:
        Milliseconds, [functions, rounds].
    """
    trial = time_alternately(functions, feeds, 3)
    rounds = int(np.clip(seconds * 1e3 / np.median(trial, axis=1).sum(), 20, 5000))
    times = np.empty((len(functions), rounds))
    rng = np.random.default_rng(0)
    for column in times.T:
        order = rng.permutation(len(functions))
        column[order] = np.ravel(time_alternately([functions[i] for i in order], feeds, 1, warmup=0))
    return times


def float_against_int8(
    source: Path, contract: Contract, shape: Sequence[int], lifted: Sequence[str], folder: Path, seconds: float
) -> tuple[float, float, float]:
    """Time a small model with some of its nodes in float and with all of them in INT8, in turns.

    Args:
        source: the float ONNX file; its input is `x`.
        contract: what is INT8.
        shape: of the input, seeded normal numbers.
        lifted: names of the nodes in question.
        folder: to write to; empty but for the source.
        seconds: for how long, roughly.

    Returns:
        Median milliseconds in float and in INT8, and the median of their ratio.
    """
    feeds = {"x": np.random.default_rng(1).standard_normal(tuple(shape), dtype=np.float32)}
    functions = []
    for name, names in (("float", lifted), ("int8", ())):
        (folder / name).mkdir()
        artifact = build_int8(source, contract, feeds, folder / name, names)
        functions.append(load_backend("onnxruntime").load(artifact, 1))
    in_float, in_int8 = time_in_turns(functions, feeds, seconds)
    return float(np.median(in_float)), float(np.median(in_int8)), float(np.median(in_int8 / in_float))
