"""Verify: outputs of one executor against those of another, on real samples.

Three questions, each with its own tolerance:
- does the normalized float graph compute what the original does? (the same numbers, but for rounding);
- does the artifact, on the real runtime, do what the Q/DQ graph says? (as near to the float model, to within 3 dB);
- does a bundle on this machine do what it did where it was compiled?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from dsedge.bench.runner import LOADERS, close_enough, compare, difference, sqnr
from dsedge.bundle import Bundle, Fidelity
from dsedge.data import Batch, Feeds
from dsedge.errors import PassError, VerifyError
from dsedge.model import Model
from dsedge.session import open_session

Predict = Callable[[Feeds], list[np.ndarray]]
Outputs = list[list[np.ndarray]]
"""For each sample, the model's outputs."""

GOLDEN_SAMPLES = 4
FIDELITY_SAMPLES = 32
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


def run_all(predict: Predict, samples: Sequence[Batch]) -> Outputs:
    """The outputs for each sample."""
    return [predict(sample.feeds) for sample in samples]


def predictor(model: ir.Model, *, optimize: bool = True) -> Predict:
    """A graph on the reference executor; with `optimize` False every node runs as it is written."""
    session = open_session(model, optimize=optimize)
    return lambda feeds: list(session.run(None, feeds))


def load_artifact(runtime: str, path: Path, threads: int | None = None) -> Predict:
    """Open an artifact the way the bundle's runner does on the device.

    Raises:
        VerifyError: DS502 when the runtime refuses it.
    """
    try:
        run: Predict = LOADERS[runtime](path, threads)
    except Exception as error:  # each runtime has exceptions of its own
        raise VerifyError("DS502", "the artifact does not run", where=path.name, because=_first_line(error)) from error
    return run


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
    largest = 0.0
    before = run_all(predictor(original.graph, optimize=False), samples)
    after = run_all(predictor(normalized.graph), samples)
    for pairs in zip(before, after, strict=True):
        for spec, a, b in zip(original.outputs, *pairs, strict=True):
            if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
                continue
            if a.shape != b.shape:
                off = np.inf
            elif not a.size:
                continue
            else:
                off = float(np.max(difference(a, b)[1], initial=0.0))
            limit = max(_RELATIVE * float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0)), _ABSOLUTE)
            if not off <= limit:
                raise PassError(
                    "DS302",
                    f"output {spec.name!r} of the normalized graph differs by {off:.3g} (limit {limit:.3g})",
                    because="a normalizing pass changed what the model computes; this is a defect of dsedge",
                    hint="report it with the model; nothing was written",
                )
            largest = max(largest, off)
    return largest


def fidelity(reference: Outputs, simulated: Outputs, got: Outputs, golden: int, *, margin_db: float = 3.0) -> Fidelity:
    """How near an artifact's outputs are to the float model's.

    Args:
        reference: outputs of the float model.
        simulated: outputs of the Q/DQ graph, executed node by node; for the first samples at least.
        got: outputs of the artifact on the real runtime.
        golden: how many of the first samples are the golden ones.
        margin_db: how much farther from the float model than the Q/DQ graph the artifact may be.

    Raises:
        VerifyError: DS501 when the artifact is farther away than that.
    """
    few = len(simulated)
    reached, expected = _worst_sqnr(reference[:few], got[:few]), _worst_sqnr(reference[:few], simulated)
    if not close_enough(reached, expected, margin_db, _integer_agreement(simulated, got[:few])):
        raise VerifyError(
            "DS501",
            f"the artifact reaches {_db(reached)}, its own Q/DQ graph {_db(expected)}",
            because="the runtime computes something else than the graph says",
            hint="report it with the model and `dsedge doctor`",
        )
    return Fidelity(
        sqnr_db=_worst_sqnr(reference, got),
        max_abs=max((_max_abs(a, b) for a, b in zip(reference, got, strict=True)), default=0.0),
        top1_agreement=_agreement(reference, got),
        samples=len(reference),
        reference_sqnr_db=expected,
        golden_sqnr_db=_worst_sqnr(reference[:golden], got[:golden]),
    )


def _worst_sqnr(reference: Outputs, got: Outputs) -> float | None:
    ratios = [
        sqnr(np.concatenate([s[i].ravel() for s in reference]), np.concatenate([s[i].ravel() for s in got]))
        for i in _float_outputs(reference)
    ]
    known = [r for r in ratios if r is not None]
    return min(known) if known else None


def _db(ratio: float | None) -> str:
    return "no error at all" if ratio is None else f"{ratio:.1f} dB"


def _integer_agreement(reference: Outputs, got: Outputs) -> float | None:
    """The share of equal numbers in the worst integer output; None when there are no integer outputs."""
    shares = [
        float(np.mean([np.array_equal(r[i], g[i]) for r, g in zip(reference, got, strict=True)]))
        for i, first in enumerate(reference[0])
        if isinstance(first, np.ndarray) and first.dtype.kind in "iub"
    ]
    return min(shares) if shares else None


def _float_outputs(outputs: Outputs) -> list[int]:
    return [i for i, a in enumerate(outputs[0]) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]


def _max_abs(reference: list[np.ndarray], got: list[np.ndarray]) -> float:
    floats = _float_outputs([reference])
    return max((float(np.max(difference(reference[i], got[i])[1], initial=0.0)) for i in floats), default=0.0)


def _agreement(reference: Outputs, got: Outputs) -> float | None:
    """The share of samples with the same class; None when the first output is no class score and no class id."""
    first = reference[0][0]
    if not isinstance(first, np.ndarray) or not first.size:
        return None
    if first.dtype.kind in "iu":
        same = [np.array_equal(a[0], b[0]) for a, b in zip(reference, got, strict=True)]
    elif first.ndim == 2 and first.shape[-1] > 1:
        same = [bool((a[0].argmax(-1) == b[0].argmax(-1)).all()) for a, b in zip(reference, got, strict=True)]
    else:
        return None
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
    for i in range(len(got[0])):
        arrays[f"expected_{i}"] = np.stack([outputs[i] for outputs in got[:count]])
        arrays[f"float_{i}"] = np.stack([outputs[i] for outputs in reference[:count]])
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def golden_count(samples: Sequence[Batch], outputs: Outputs) -> int:
    """How many of the first samples can be golden: stacking needs equal shapes."""

    def shapes(i: int) -> list[tuple[int, ...]]:
        return [a.shape for a in (*samples[i].feeds.values(), *outputs[i])]

    count = 0
    while count < min(GOLDEN_SAMPLES, len(samples)) and shapes(count) == shapes(0):
        count += 1
    return count


def verify_bundle(bundle: Bundle) -> dict[str, float | None]:
    """Check the files of a bundle against their hashes, and its golden outputs through the real runtime.

    Returns:
        `sqnr_db` against the float model, `max_abs_from_expected` and `agreement` of integers with the outputs that
        were recorded at compile time.

    Raises:
        BundleError: DS803 a file is missing, changed, or outside of the bundle.
        VerifyError: DS501 the outputs are off, DS502 the artifact does not run here.
    """
    bundle.check_files()
    manifest = bundle.manifest
    run = load_artifact(manifest.runtime.name, bundle.file("model"))
    try:
        with np.load(bundle.file("golden"), allow_pickle=False) as data:
            golden = dict(data)
        found: dict[str, float | None] = compare(golden, run, manifest.model.inputs)
    except Exception as error:
        raise VerifyError("DS502", "the golden inputs do not run", because=_first_line(error)) from error
    recorded = manifest.fidelity.golden_sqnr_db if manifest.fidelity else None
    worst, agreement = found["sqnr_db"], found["agreement"]
    if not close_enough(worst, recorded, agreement=agreement):
        ids = "" if agreement is None else f", {100 * agreement:.0f}% of the integer outputs are equal"
        raise VerifyError(
            "DS501",
            f"the golden outputs reach {_db(worst)} against the float model here{ids}",
            because=f"they reached {_db(recorded)} where it was compiled",
            hint="compare the runtime's version with the manifest's",
        )
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
