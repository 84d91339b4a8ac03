"""One tree of errors: a code, where, what, because, and a hint.

Every error a user can meet is a `DsedgeError` with a code out of `CODES`. The first digit is the step that failed:
1 load, 2 check, 3 pass, 4 build, 5 verify, 6 gate, 7 bench, 8 bundle.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

CODES = {
    # load: models
    "DS101": "the model file is missing or cannot be read",
    "DS102": "the model file is not a valid ONNX model",
    "DS103": "the source is of a kind that is refused or unknown",
    "DS104": "external data is missing, truncated, or outside of the model's folder",
    "DS105": "a weight holds NaN or Inf",
    "DS106": "an input or output of the model is unusable",
    "DS107": "PyTorch could not export the module",
    "DS108": "the model uses an opset that cannot be brought to the canonical one",
    "DS109": "the model is quantized already",
    "DS110": "the model's outputs are random",
    # load: calibration and evaluation data
    "DS121": "the data file is missing or cannot be read",
    "DS122": "the data does not fit the model's inputs",
    "DS123": "there are no samples",
    "DS124": "labels are missing or do not fit the data",
    "DS125": "unknown metric",
    "DS126": "calibration data is required",
    "DS127": "the calibration recipe is unknown or invalid",
    "DS128": "the data holds NaN or Inf",
    # load: targets and options
    "DS141": "unknown target",
    "DS142": "a target file is invalid",
    "DS143": "unknown runtime",
    "DS144": "the target's runtime has no backend here",
    "DS145": "an option is invalid",
    "DS146": "the runtime does not have the precision that was asked for",
    # check
    "DS201": "operators that the runtime does not support",
    "DS202": "an operator would compute on real numbers, and only INT8 is allowed",
    # pass
    "DS301": "a pass failed",
    "DS302": "the normalized graph computes something else than the original",
    # build
    "DS401": "the graph cannot be written for the runtime",
    "DS402": "a package that this step needs is not installed",
    "DS403": "the artifact exceeds what its format can hold",
    "DS404": "the runtime would refuse the graph, or not compute what it says",
    # verify
    "DS501": "outputs differ from the reference",
    "DS502": "the artifact does not run",
    # gate
    "DS601": "a gate failed",
    # bundle
    "DS801": "the output folder exists",
    "DS802": "the output folder cannot be written",
    "DS803": "the bundle is damaged",
    "DS804": "not a dsedge bundle",
    # everything else
    "DS900": "interrupted",
    "DS999": "an error inside dsedge",
}


class DsedgeError(Exception):
    """An error with a code, shown to users as text, never as a traceback.

    Args:
        code: one of `CODES`.
        what: the finding, one sentence without a full stop.
        where: the node, field or file that it is about.
        because: the cause, when it is known.
        hint: what to do about it.
    """

    exit_code = 2

    def __init__(
        self, code: str, what: str, *, where: str | None = None, because: str | None = None, hint: str | None = None
    ) -> None:
        if code not in CODES:
            raise ValueError(f"{code} is not in dsedge.errors.CODES")
        self.code, self.what, self.where, self.because, self.hint = code, what, where, because, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.where}: {self.what}" if self.where else f"{self.code}: {self.what}"]
        if self.because:
            lines.append(f"  because: {self.because}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.what, self.where, self.because, self.hint)

    def to_json(self) -> dict[str, str | None]:
        """The error as plain data: `code`, `where`, `what`, `because`, `hint`."""
        return {
            "code": self.code,
            "where": self.where,
            "what": self.what,
            "because": self.because,
            "hint": self.hint,
        }


def _rebuild(
    kind: type[DsedgeError], code: str, what: str, where: str | None, because: str | None, hint: str | None
) -> DsedgeError:
    return kind(code, what, where=where, because=because, hint=hint)


class LoadError(DsedgeError):
    """DS1xx: a model, data set, recipe, target or option cannot be used."""


class CheckError(DsedgeError):
    """DS2xx: the runtime cannot run the model."""


class PassError(DsedgeError):
    """DS3xx: a pass failed, or changed what the model computes."""

    exit_code = 3


class BuildError(DsedgeError):
    """DS4xx: a backend failed to build."""

    exit_code = 3


class VerifyError(DsedgeError):
    """DS5xx: the artifact does not do what the reference does."""

    exit_code = 3


class GateError(DsedgeError):
    """DS6xx: the artifact was written, but a gate failed."""

    exit_code = 1


class BundleError(DsedgeError):
    """DS8xx: a bundle cannot be written or read."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that lists the known names, those that are close first."""
    known = sorted(known)
    listed = ", ".join(known)
    close = close_names(name, known)
    return f"did you mean {close}? Known: {listed}" if close else f"known: {listed}"


def close_names(name: str, known: Sequence[str]) -> str:
    """Known names that a name is a word of ("orin" of "jetson-orin-nx"), else the one it is close to; "" for none."""
    words = [each for each in known if name.lower() in re.split(r"[\W_]", each.lower())]
    return " or ".join(map(repr, words[:3] or difflib.get_close_matches(name, known, n=1, cutoff=0.6)))
