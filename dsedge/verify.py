"""Verify: outputs of one executor against those of another, on real samples.

Three questions, each with its own tolerance:
- does the normalized float graph compute what the original does? (the same numbers, but for rounding);
- does the artifact, on the real runtime, do what the Q/DQ graph says? (as near to the float model, to within 3 dB);
- does a bundle on this machine do what it did where it was compiled?
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import Backend, Predict, load_backend
from dsedge.bench.runner import close_enough, compare, difference, sqnr
from dsedge.bundle import Bundle, Fidelity
from dsedge.data import Batch
from dsedge.errors import PassError, VerifyError
from dsedge.model import Model, TensorSpec
from dsedge.session import first_line, open_session

Outputs = list[list[np.ndarray]]
"""For each sample, the model's outputs."""

GOLDEN_SAMPLES = 4
FIDELITY_SAMPLES = 32
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


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


def predictor(model: ir.Model, *, optimize: bool = True) -> Predict:
    """A graph on the reference executor; with `optimize` False every node runs as it is written."""
    session = open_session(model, optimize=optimize)
    return lambda feeds: list(session.run(None, feeds))


def open_artifact(backend: Backend, path: Path, threads: int | None = None) -> Predict:
    """Open the main file of an artifact the way the bundle's runner does on the device.

    Raises:
        VerifyError: DS502 when the runtime refuses it.
    """
    try:
        return backend.load(path, threads)
    except Exception as error:  # each runtime has exceptions of its own
        raise VerifyError("DS502", "the artifact does not run", where=path.name, because=first_line(error)) from error


def same_function(original: Model, normalized: Model, samples: Sequence[Batch]) -> float:
    """Check that a normalized graph computes what the original does.

    Args:
        original: as it was loaded.
        normalized: the same model after the normalizing passes.
        samples: calibration samples; noise would leave ranges untouched that real data reaches.

    Returns:
        The greatest absolute difference.

    Raises:
        PassError: DS302 when it exceeds 1e-3 of the output's greatest magnitude and 1e-5.
    """
    before = run_all(predictor(original.graph, optimize=False), samples)
    after = run_all(predictor(normalized.graph), samples)
    largest, complaint = compare_floats(original.outputs, before, after)
    if complaint:
        raise PassError(
            "DS302",
            f"the normalized graph: {complaint}",
            because="a normalizing pass changed what the model computes; this is a defect of dsedge",
            hint="report it with the model; nothing was written",
        )
    return largest


def compare_floats(specs: Sequence[TensorSpec], before: Outputs, after: Outputs) -> tuple[float, str | None]:
    """The greatest difference between two executions in float, and a complaint if it is more than rounding.

    More is what exceeds 1e-3 of the output's greatest magnitude, and 1e-5.
    """
    largest = 0.0
    for one, other in zip(before, after, strict=True):
        for spec, a, b in zip(specs, one, other, strict=True):
            if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
                continue
            off = float(np.max(difference(a, b)[1], initial=0.0))
            limit = max(_RELATIVE * float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)), _ABSOLUTE)
            if not off <= limit:
                return off, f"output {spec.name!r} differs by {off:.3g} (limit {limit:.3g})"
            largest = max(largest, off)
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
    if not close_enough(reached, expected, margin_db, _integer_agreement(simulated, got[:golden])):
        raise VerifyError(
            "DS501",
            f"the artifact reaches {_db(reached)}, its own Q/DQ graph {_db(expected)}",
            because="the runtime computes something else than the graph says",
            hint="report it with the model and `dsedge doctor`",
        )
    largest = max((_max_abs(a, b) for a, b in zip(reference, got, strict=True)), default=0.0)
    return Fidelity(
        sqnr_db=_worst(sqnr_by_output(reference, got)),
        max_abs=largest if np.isfinite(largest) else 1e300,
        top1_agreement=_agreement(samples, reference, got),
        samples=sum(batch.count for batch in samples),
        reference_sqnr_db=_worst(expected),
        golden_sqnr_db=reached,
    )


def sqnr_by_output(reference: Outputs, got: Outputs) -> list[float | None]:
    """SQNR of each output over all samples, in dB; None where it is identical or not of floats."""
    return [
        sqnr(_joined(reference, i), _joined(got, i)) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else None
        for i, a in enumerate(reference[0])
    ]


def _joined(outputs: Outputs, index: int) -> np.ndarray:
    return np.concatenate([sample[index].ravel() for sample in outputs])


def _worst(ratios: Sequence[float | None]) -> float | None:
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _db(ratios: Sequence[float | None]) -> str:
    return ", ".join("no error" if ratio is None else f"{ratio:.1f} dB" for ratio in ratios)


def _integer_agreement(reference: Outputs, got: Outputs) -> float | None:
    """The share of equal numbers in the worst integer output; None when there are no integer outputs."""
    shares = [
        float(np.mean([np.array_equal(r[i], g[i]) for r, g in zip(reference, got, strict=True)]))
        for i, first in enumerate(reference[0])
        if isinstance(first, np.ndarray) and first.dtype.kind in "iub"
    ]
    return min(shares) if shares else None


def _max_abs(reference: list[np.ndarray], got: list[np.ndarray]) -> float:
    floats = [i for i, a in enumerate(reference) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]
    return max((float(np.max(difference(reference[i], got[i])[1], initial=0.0)) for i in floats), default=0.0)


def _agreement(samples: Sequence[Batch], reference: Outputs, got: Outputs) -> float | None:
    """The share of samples with the same class; None when the first output is no class score and no class id."""
    first = reference[0][0]
    if not isinstance(first, np.ndarray) or first.ndim == 0 or not first.size:
        return None
    if first.dtype.kind not in "iu" and not (first.dtype.kind == "f" and first.ndim == 2 and first.shape[-1] > 1):
        return None
    same: list[bool] = []
    for batch, one, other in zip(samples, reference, got, strict=True):
        a, b = (x[0].argmax(-1) if first.dtype.kind == "f" else x[0] for x in (one, other))
        if a.shape == b.shape and len(a) == batch.count + batch.padding:
            same += [np.array_equal(x, y) for x, y in zip(a[: batch.count], b[: batch.count], strict=True)]
        else:
            same.append(np.array_equal(a, b))
    return float(np.mean(same))


def write_golden(
    path: Path, model: Model, samples: Sequence[Batch], reference: Outputs, got: Outputs, count: int
) -> None:
    """Write inputs, expected outputs and float outputs of the first samples, as `golden.npz`.

    Arrays are `input_i`, `expected_i` and `float_i`, each [samples, ...] with i in the model's order.
    """
    arrays: dict[str, np.ndarray] = {}
    for i, spec in enumerate(model.inputs):
        arrays[f"input_{i}"] = np.stack([s.feeds[spec.name] for s in samples[:count]])
    for i, first in enumerate(got[0]):
        if isinstance(first, np.ndarray) and first.dtype != object:  # sequences, maps and strings are not compared
            arrays[f"expected_{i}"] = np.stack([outputs[i] for outputs in got[:count]])
            arrays[f"float_{i}"] = np.stack([outputs[i] for outputs in reference[:count]])
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def golden_count(samples: Sequence[Batch], reference: Outputs, got: Outputs) -> int:
    """How many of the first samples can be golden: stacking needs equal shapes."""

    def shapes(i: int) -> list[tuple[int, ...] | None]:
        arrays = (*samples[i].feeds.values(), *reference[i], *got[i])
        return [getattr(array, "shape", None) for array in arrays]

    count = 0
    while count < min(GOLDEN_SAMPLES, len(samples)) and shapes(count) == shapes(0):
        count += 1
    return count


def verify_bundle(bundle: Bundle) -> dict[str, Any]:
    """Check the files of a bundle against their hashes, and its golden outputs through the real runtime.

    Returns:
        `sqnr_db` of each output against the float model; `max_abs_from_expected` and `agreement` of integers with the
        outputs that were recorded at compile time.

    Raises:
        BundleError: DS803 a file is missing, changed, or outside of the bundle.
        VerifyError: DS501 the outputs are off, DS502 the artifact does not run here.
    """
    bundle.check_files()
    manifest = bundle.manifest
    run = open_artifact(load_backend(manifest.runtime.name), bundle.file("model"))
    path = bundle.file("golden")
    try:
        with np.load(path, allow_pickle=False) as data:
            golden = dict(data)
        if not any(name.startswith("expected_") for name in golden) or not len(golden["input_0"]):
            raise ValueError("it holds no inputs with expected outputs")
        found: dict[str, Any] = compare(golden, run, manifest.model.inputs)
    except Exception as error:
        raise VerifyError("DS502", "the golden inputs do not run", because=first_line(error)) from error
    recorded = manifest.fidelity.golden_sqnr_db if manifest.fidelity else []
    reached, agreement = found["sqnr_db"], found["agreement"]
    if not close_enough(reached, recorded, agreement=agreement):
        ids = "" if agreement is None else f", {100 * agreement:.0f}% of the integer outputs are equal"
        raise VerifyError(
            "DS501",
            f"the golden outputs reach {_db(reached)} against the float model here{ids}",
            because=f"they reached {_db(recorded)} where it was compiled",
            hint="compare the runtime's version with the manifest's",
        )
    return found
