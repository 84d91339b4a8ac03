"""Finite: whether the float model's own outputs can be compared with, where they hold NaN or Inf."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsedge.errors import LoadError
from dsedge.model import TensorSpec
from dsedge.strict import listed


def require_finite(specs: Sequence[TensorSpec], outputs: Sequence[Sequence[np.ndarray]], source: str) -> list[str]:
    """What a reader must know of the float model's outputs.

    NaN in some places and Inf can be meant (a masked score is -Inf), and are compared by place. Of an output that holds
    NaN and nothing finite no number is compared, and "identical" would say nothing.

    Args:
        specs: of the outputs.
        outputs: for each sample, the float model's outputs.
        source: where the samples come from; "random" is noise.

    Returns:
        A note that names the outputs, none where all numbers are finite.

    Raises:
        LoadError: DS128 when an output holds NaN, and no finite number in any sample.
    """
    found = []
    for spec, arrays in zip(specs, zip(*outputs, strict=True), strict=True):
        total = sum(array.size for array in arrays)
        if arrays[0].dtype.kind != "f" or not total:
            continue
        nan, inf = (sum(int(np.sum(test(array))) for array in arrays) for test in (np.isnan, np.isinf))
        kinds = " or ".join(kind for kind, count in (("NaN", nan), ("Inf", inf)) if count)
        if nan and nan + inf == total:
            raise LoadError(
                "DS128",
                f"the float model's output {spec.name!r} is {kinds} throughout, in every sample",
                because="there is no number that an artifact's could be compared with",
                hint="the samples are random noise: give real ones with --calib, or look for the operator that gives it"
                if source == "random"
                else "prepare the samples as in training, and look for the operator that is not defined for them",
            )
        if kinds:
            found.append(f"{100 * (nan + inf) / total:.3g}% of {spec.name!r} is {kinds}")
    return [f"the float model itself gives NaN or Inf on this data: {listed(found)}"] if found else []
