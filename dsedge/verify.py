"""Verify: outputs of one executor against those of another, on real samples.

Three questions, each with its own tolerance:
- does the normalized float graph compute what the original does? (the same numbers, but for rounding);
- does the artifact, on the real runtime, do what the Q/DQ graph says? (as near to the float model, to within 3 dB);
- does a bundle on this machine do what it did where it was compiled?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import Backend, Predict, device_result, installed_backend, is_deferred
from dsedge.bench.runner import agreement, agrees, as_array, close_enough, compare, difference, sqnr_of_samples
from dsedge.bundle import Bundle, Fidelity, Steps
from dsedge.data import Batch
from dsedge.errors import BundleError, LoadError, PassError, VerifyError
from dsedge.model import Model, TensorSpec
from dsedge.passes.base import run
from dsedge.passes.infer_shapes import InferShapes
from dsedge.passes.initializers_from_inputs import InitializersFromInputs
from dsedge.passes.inline_functions import InlineFunctions
from dsedge.passes.lift_constants import LiftConstants
from dsedge.passes.normalize import clone
from dsedge.passes.sort import Sort
from dsedge.passes.widen_half import WidenHalf
from dsedge.reported import take_in
from dsedge.session import first_line, open_session

Outputs = list[list[np.ndarray]]
"""For each sample, the model's outputs."""

GOLDEN_SAMPLES = 4
FIDELITY_SAMPLES = 32
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
_RANDOM = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli Dropout".split()
)
_NEARLY_TIED = 0.01  # of integers: where two scores are as good as equal, rounding decides which comes first


def run_all(predict: Predict, samples: Sequence[Batch]) -> Outputs:
    """The outputs for each sample.

    Raises:
        VerifyError: DS502 when the runtime fails on one.
    """
    outputs: Outputs = []
    for index, sample in enumerate(samples):
        try:
            outputs.append(predict(sample.feeds))
        except Exception as error:  # each runtime has exceptions of its own
            because = first_line(error)
            raise VerifyError("DS502", f"the model does not run on sample {index}", because=because) from error
    return outputs


def predictor(
    model: ir.Model | Path,
    *,
    optimize: bool = True,
    config: Mapping[str, str] | None = None,
    threads: int | None = None,
) -> Predict:
    """A graph on the reference executor; with `optimize` False every node runs as it is written."""
    session = open_session(model, optimize=optimize, config=config, threads=threads)
    return lambda feeds: [as_array(output) for output in session.run(None, feeds)]


def open_artifact(backend: Backend, path: Path, threads: int | None = None) -> Predict:
    """Open the main file of an artifact the way the bundle's runner does on the device.

    Raises:
        VerifyError: DS502 when the runtime refuses it.
    """
    try:
        return backend.load(path, threads)
    except Exception as error:  # each runtime has exceptions of its own
        raise VerifyError("DS502", "the artifact does not run", where=path.name, because=first_line(error)) from error


def same_function(original: Model, normalized: Model, samples: Sequence[Batch], *, optimize: bool = True) -> float:
    """Check that a normalized graph computes what the original does; half precision is taken as float32.

    Args:
        original: as it was loaded.
        normalized: the same model after the normalizing passes.
        samples: calibration samples; noise would leave ranges untouched that real data reaches.
        optimize: run the normalized graph as the runtime optimizes it. A graph with quantizers is run as it is written,
            because the optimizer's INT8 kernels round in another place.

    Returns:
        The greatest absolute difference.

    Raises:
        LoadError: DS110 when the model draws random numbers, DS122 when it does not run on a sample.
        PassError: DS302 when it exceeds 1e-3 of the output's greatest magnitude and 1e-5.
    """
    drawn = next((n.op_type for n in normalized.graph.graph.all_nodes() if _draws(n)), None)
    if drawn:
        raise LoadError(
            "DS110",
            f"the model gives other outputs each time: its {drawn} draws random numbers and has no seed",
            where=original.source,
            because="no artifact of it can be compared with it",
            hint="export it in evaluation mode, or with the random numbers as an input",
        )
    reference = _widened(original)
    if reference is not original:
        run_original(original, samples[:1])
    before = run_original(reference, samples)
    after = run_all(predictor(normalized.graph, optimize=optimize), samples)
    largest, complaint = compare_floats(original.outputs, before, after)
    if complaint:
        raise PassError(
            "DS302",
            f"the normalized graph: {complaint}",
            because="a normalizing pass changed what the model computes; this is a defect of dsedge",
            hint="report it with the model; nothing was written",
        )
    return largest


def _draws(node: ir.Node) -> bool:
    return node.op_type in _RANDOM and not node.domain and "seed" not in node.attributes


def _widened(model: Model) -> Model:
    """The model in float32 where it computes in half precision, whose own rounding would hide any other difference."""
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    constants = [value for graph in model.graph.graphs() for value in graph.initializers.values()]
    values = [*model.graph.graph.inputs, *constants, *(v for n in model.graph.graph.all_nodes() for v in n.outputs)]
    casts = [a for n in model.graph.graph.all_nodes() for a in n.attributes.values() if a.name == "to"]
    if not any(v.dtype in halves for v in values) and not any(a.value in halves for a in casts):
        return model
    graph = clone(model.graph)
    run([Sort, InitializersFromInputs, InlineFunctions, LiftConstants, InferShapes, WidenHalf], graph)
    return model.with_graph(graph)


def run_original(model: Model, samples: Sequence[Batch]) -> Outputs:
    """The outputs of a model's graph, executed node by node.

    Raises:
        LoadError: DS122 when it fails on a sample, which then does not fit the model.
    """
    predict = predictor(model.graph, optimize=False)
    try:
        return run_all(predict, samples)
    except VerifyError as error:
        hint = "give samples that the model takes; lengths of open axes can also be fixed: --shape NAME=1,3,224,224"
        raise LoadError("DS122", error.what, where=model.source, because=error.because, hint=hint) from error


def compare_floats(specs: Sequence[TensorSpec], before: Outputs, after: Outputs) -> tuple[float, str | None]:
    """The greatest difference between two executions in float, and a complaint if it is more than rounding.

    More is what exceeds 1e-3 of the output's greatest magnitude, and 1e-5; of integers one in a hundred may.
    """
    largest = 0.0
    for one, other in zip(before, after, strict=True):
        for spec, a, b in zip(specs, one, other, strict=True):
            if a.shape != b.shape:
                return float("inf"), f"output {spec.name!r} has the shape {list(b.shape)} instead of {list(a.shape)}"
            if a.dtype.kind not in "fiub":
                continue
            off = difference(a, b)[1]
            limit = max(_RELATIVE * float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)), _ABSOLUTE)
            wrong = float(np.mean(off > limit)) if off.size else 0.0
            if wrong > (0.0 if a.dtype.kind == "f" else _NEARLY_TIED):
                return float(off.max()), f"output {spec.name!r} differs by {off.max():.3g} (limit {limit:.3g})"
            largest = max(largest, float(np.max(off, initial=0.0)))
    return largest, None


def fidelity(
    samples: Sequence[Batch],
    reference: Outputs,
    simulated: Outputs,
    got: Outputs,
    *,
    margin_db: float = 3.0,
) -> Fidelity:
    """How near an artifact's outputs are to the float model's.

    Args:
        samples: what was run.
        reference: outputs of the float model.
        simulated: outputs of the Q/DQ graph, executed node by node, for the golden samples: the first ones.
        got: outputs of the artifact on the real runtime.
        margin_db: how much farther from the float model than the Q/DQ graph an output of the artifact may be.

    Raises:
        VerifyError: DS501 when one is farther away than that.
    """
    golden = len(simulated)
    reached = sqnr_by_output(reference[:golden], got[:golden])
    expected = sqnr_by_output(reference[:golden], simulated)
    equal, should = (_agreements(reference[:golden], outputs) for outputs in (got[:golden], simulated))
    numbers = [sum(array.size for array in output) for output in zip(*simulated, strict=True)]
    if not (close_enough(reached, expected, numbers, margin_db) and agrees(equal, should)):
        raise VerifyError(
            "DS501",
            f"the artifact reaches {_described(reached, equal)}, its own Q/DQ graph {_described(expected, should)}",
            because="the runtime computes something else than the graph says",
            hint="report it with the model and `dsedge doctor`",
        )
    pairs = [list(zip(one, other, strict=True)) for one, other in zip(reference, got, strict=True)]
    largest = max(map(_max_abs, pairs), default=0.0)
    whole = [sides for sides in _by_output(reference, got) if sides[0][0].dtype.kind != "f"]
    return Fidelity(
        sqnr_db=_worst(sqnr_by_output(reference, got)),
        max_abs=largest if np.isfinite(largest) else 1e300,
        top1_agreement=_agreement(samples, reference, got),
        samples=sum(batch.count for batch in samples),
        reference_sqnr_db=_worst(expected),
        golden_sqnr_db=reached,
        golden_agreement=_agreements(simulated, got[:golden]),
        equal=min((agreement(*sides) for sides in whole), default=None),
        same_lengths=float(np.mean([all(a.shape == b.shape for a, b in outputs) for outputs in pairs])),
    )


def sqnr_by_output(reference: Outputs, got: Outputs) -> list[float | None]:
    """SQNR of each output over the samples in which its length is the same, in dB, see `runner.sqnr_of_samples`."""
    return [sqnr_of_samples(*sides) for sides in _by_output(reference, got)]


def _agreements(reference: Outputs, got: Outputs) -> list[float]:
    return [agreement(*sides) for sides in _by_output(reference, got)]


def steps(scales: Sequence[float | None], reference: Outputs, got: Outputs) -> list[Steps | None]:
    """How far the outputs of an artifact are from the Q/DQ graph's over samples, in steps of their scale (LSB).

    Args:
        scales: of each output that the Q/DQ graph writes as codes, None for others.
        reference: outputs of the Q/DQ graph.
        got: outputs of the artifact for the same samples.
    """
    return [_steps(scale, *sides) for scale, sides in zip(scales, _by_output(reference, got), strict=True)]


def _steps(scale: float | None, reference: list[np.ndarray], got: list[np.ndarray]) -> Steps | None:
    if scale is None or any(a.shape != b.shape for a, b in zip(reference, got, strict=True)):
        return None
    off = np.concatenate([np.rint(difference(a, b)[1] / scale) for a, b in zip(reference, got, strict=True)])
    if not off.size or not np.isfinite(off).all():
        return None
    return Steps(max=int(off.max()), exact=float(np.mean(off == 0)))


def _by_output(*sides: Outputs) -> Iterator[tuple[list[np.ndarray], ...]]:
    """For each output, its arrays of all samples, of each side."""
    for i in range(len(sides[0][0])):
        yield tuple([sample[i] for sample in side] for side in sides)


def _worst(ratios: Sequence[float | None]) -> float | None:
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _described(ratios: Sequence[float | None], shares: Sequence[float]) -> str:
    pairs = zip(ratios, shares, strict=True)
    texts = ["no error" if ratio is None else f"{ratio:.1f} dB" for ratio, _ in pairs]
    return ", ".join(t if s == 1.0 else f"{t} ({100 * s:.0f}% equal)" for t, s in zip(texts, shares, strict=True))


def _max_abs(outputs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    compared = [(a, b) for a, b in outputs if a.dtype.kind == "f" and a.shape == b.shape]
    return max((float(np.max(difference(a, b)[1], initial=0.0)) for a, b in compared), default=0.0)


def _agreement(samples: Sequence[Batch], reference: Outputs, got: Outputs) -> float | None:
    """The share of samples with the same class; None when the first output is no class score and no class id."""
    same: list[bool] = []
    for batch, one, other in zip(samples, reference, got, strict=True):
        a, b = _classes(one[0]), _classes(other[0])
        if a is None or b is None or a.shape != (batch.count + batch.padding,) or a.shape != b.shape:
            return None
        same += (a == b)[: batch.count].tolist()
    return float(np.mean(same))


def _classes(output: np.ndarray) -> np.ndarray | None:
    """Of scores [N, C] the class, of ids [N] themselves; None for anything else."""
    if output.dtype.kind == "f":
        return output.argmax(-1) if output.ndim == 2 and output.shape[1] > 1 else None
    return output if output.ndim == 1 and output.dtype.kind in "iuU" else None


def write_golden(
    path: Path, model: Model, samples: Sequence[Batch], reference: Outputs, got: Outputs, count: int
) -> None:
    """Write inputs, expected outputs and float outputs of the first samples, as `golden.npz`.

    Arrays are `input_i`, `expected_i` and `float_i`, each [samples, ...] with i in the model's order.
    """
    arrays: dict[str, np.ndarray] = {}
    for i, spec in enumerate(model.inputs):
        arrays[f"input_{i}"] = np.stack([s.feeds[spec.name] for s in samples[:count]])
    for i, (expected, floats) in enumerate(_by_output(got[:count], reference[:count])):
        arrays[f"expected_{i}"], arrays[f"float_{i}"] = np.stack(expected), np.stack(floats)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def golden_count(samples: Sequence[Batch], reference: Outputs, got: Outputs) -> int:
    """How many of the first samples can be golden: stacking needs equal shapes."""

    def shapes(i: int) -> list[tuple[int, ...]]:
        return [array.shape for array in (*samples[i].feeds.values(), *reference[i], *got[i])]

    count = 0
    while count < min(GOLDEN_SAMPLES, len(samples)) and shapes(count) == shapes(0):
        count += 1
    return count


def verify_bundle(bundle: Bundle) -> dict[str, Any]:
    """Check the files of a bundle against their hashes, and its golden outputs through the real runtime.

    Of a deferred bundle the graph is run on the reference runtime, and what the device reported, if it did, goes into
    its manifest.

    Returns:
        Of each output, `sqnr_db` against the float model and `agreement` with what was recorded at compile time;
        `max_abs_from_expected`; and `samples`, how many golden ones there are; of a deferred bundle also its `status`
        now, and the lines of the `device`'s report.

    Raises:
        BundleError: DS803 a file is missing, changed, or outside of the bundle; or the device's report is damaged.
        LoadError: DS144 there is no backend for its runtime.
        BuildError: DS402 its runtime is not installed.
        VerifyError: DS501 the outputs are off, DS502 the artifact does not run here.
    """
    bundle.check_files()
    manifest = bundle.manifest
    backend = installed_backend(manifest.runtime.name)
    run = open_artifact(backend, bundle.file("model"))
    path = bundle.file("golden")
    try:
        with np.load(path, allow_pickle=False) as data:
            golden = dict(data)
        if not golden or not all(map(len, golden.values())):
            raise ValueError("it holds no inputs with expected outputs")
        found: dict[str, Any] = compare(golden, run, manifest.model.inputs)
        found["samples"] = len(next(iter(golden.values())))
    except Exception as error:
        raise VerifyError("DS502", "the golden inputs do not run", because=first_line(error)) from error
    reached, shares = found["sqnr_db"], found["agreement"]
    recorded = manifest.fidelity
    if recorded is None or not (
        close_enough(reached, recorded.golden_sqnr_db, found["numbers"]) and agrees(shares, recorded.golden_agreement)
    ):
        before = "nothing" if recorded is None else _described(recorded.golden_sqnr_db, recorded.golden_agreement)
        raise VerifyError(
            "DS501",
            f"the golden outputs reach {_described(reached, shares)} against the float model here",
            because=f"they reached {before} where it was compiled",
            hint="compare the runtime's version with the manifest's",
        )
    if is_deferred(backend):
        reported = device_result(backend, bundle.path)
        found["status"] = reported.status if reported else manifest.status
        found["device"] = list(reported.summary) if reported else None
        if reported:
            try:
                take_in(bundle, reported)
            except BundleError as error:
                found["device"].append(f"the manifest does not say so: {error.what}: {error.because}")
    return found
