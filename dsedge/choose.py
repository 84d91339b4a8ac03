"""Choose: the runtime for a board and a model.

A target lists its runtimes, the preferred one first. With `auto`, where this machine stands for the board, all that are
installed and can run the model as it was asked for are compiled and measured; elsewhere the first of them is taken.
What was passed over is said, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from dsedge.backends.base import Backend, Finding, available, installed_backend, is_ready, load_backend, pip_line
from dsedge.errors import BuildError, CheckError, DsedgeError, LoadError, did_you_mean
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model
from dsedge.passes.upgrade_opset import CANONICAL_OPSET
from dsedge.quant.interface import require_io_dtype
from dsedge.quant.precision import INT8, Request, require_available
from dsedge.report.text import counted
from dsedge.session import REFERENCE
from dsedge.target import Target

_LONGEST_REASON = 300
"""Letters of a note: a refusal can name many nodes."""
UNFIT = "give lengths with --shape that the model takes, or leave --shape out"
_CORRECT = "correct this and export the model again"


@dataclass(frozen=True)
class Option:
    """A runtime that can run the model as it was asked for.

    Attributes:
        backend: of the runtime.
        model: with the axes fixed that it wants fixed.
        notes: what was fixed.
    """

    backend: Backend
    model: Model
    notes: list[str]


@dataclass(frozen=True)
class Failed:
    """A runtime that could not be used, and the error that says why.

    Attributes:
        backend: of the runtime.
        error: of its own check or build.
        precision: what could not be made, None for what was asked for.
    """

    backend: Backend
    error: DsedgeError
    precision: str | None = None


def is_portfolio(target: Target, runtime: str) -> bool:
    """Whether all runtimes are compiled: none was asked for, and this machine can tell which is the fastest."""
    return runtime == "auto" and target.matches_host()[0]


def usable_backends(target: Target, runtime: str) -> tuple[Iterator[Backend], list[str]]:
    """The backends that may be taken for a target, the preferred one first, and what there is to say about the others.

    Those behind the first are imported when they are asked for.

    Raises:
        LoadError: DS143 when the target does not have the runtime, DS144 when none of its runtimes has a backend.
        BuildError: DS402 when the runtime that was asked for is not installed, or none that has a backend is.
    """
    listed = [r.name for r in target.runtimes]
    present = available()
    if runtime != "auto":
        if runtime not in listed:
            raise LoadError(
                "DS143", f"{target.name} does not run {runtime!r}", hint=did_you_mean(runtime, [*listed, "auto"])
            )
        return iter([installed_backend(runtime)]), []
    usable = (b for name in listed if name in present and is_ready(b := load_backend(name)))
    first = next(usable, None)
    if first is None:
        absent = [name for name in listed if name in present]
        if absent:
            lines = " or ".join(pip_line(load_backend(name)) for name in absent)
            what = f"{target.name} runs on {', '.join(absent)}, which {'are' if absent[1:] else 'is'} not installed"
            raise BuildError("DS402", what, hint=lines)
        others = f"backends here: {', '.join(sorted(present))}; `dsedge targets` shows what each board runs"
        what = f"{target.name} runs on {', '.join(listed)}, for which there is no backend here"
        raise LoadError("DS144", what, hint=others)
    if is_portfolio(target, runtime):
        backends = [first, *usable]
        missing = missing_runtimes(target)
        return iter(backends), [f"{name} {why}, so it is not among the candidates" for name, why in missing.items()]
    passed = listed[: listed.index(first.NAME)]
    missing = missing_runtimes(target) if passed else {}
    notes = [f"{target.name} prefers {name}, which {missing[name]}: {first.NAME} is used" for name in passed]
    return chain([first], usable), notes


def missing_runtimes(target: Target) -> dict[str, str]:
    """The target's runtimes that cannot be used here, and why: "is not installed (pip install ...)"."""
    present = available()
    missing = {r.name: "has no backend yet" for r in target.runtimes if r.name not in present}
    backends = [load_backend(r.name) for r in target.runtimes if r.name in present]
    return missing | {b.NAME: f"is not installed ({pip_line(b)})" for b in backends if not is_ready(b)}


def able(
    model: Model, target: Target, asked: Iterable[str], request: Request = INT8, io_dtype: str = "float"
) -> list[str]:
    """The installed runtimes of a target that were not asked, and can run a model as it was asked for."""
    broken = load_backend(REFERENCE).unsupported(model.graph)
    found = []
    for name in [r.name for r in target.runtimes if r.name not in {*missing_runtimes(target), *asked}]:
        try:
            _fitted(model, broken, load_backend(name), target, request, io_dtype)
        except (LoadError, CheckError):
            continue
        found.append(name)
    return found


def ranked(target: Target, runtime: str) -> list[str]:
    """A note where the preferred runtime is taken because this machine cannot tell which is the fastest."""
    listed = [r.name for r in target.runtimes]
    if runtime != "auto" or len(listed) < 2 or is_portfolio(target, runtime):
        return []
    return [f"not measured here: ranked by the target's preference ({', '.join(listed)})"]


def choose_options(
    backends: Iterable[Backend],
    model: Model,
    target: Target,
    request: Request = INT8,
    io_dtype: str = "float",
    *,
    every: bool,
    missing: Sequence[str] = (),
    shaped: bool = False,
) -> tuple[list[Option], list[Failed]]:
    """The backends that can run a model as it was asked for.

    Args:
        backends: from `usable_backends`.
        model: as it was loaded.
        target: the board.
        request: which precision was asked for.
        io_dtype: which type of inputs and outputs.
        every: all of them; else the first, and those that were passed over before it.
        missing: from `usable_backends`: what a refusal must say of those that were not even asked.
        shaped: whether the user gave shapes, which are then the first suspects when the model is refused as a whole.

    Returns:
        One option at least, and the backends that cannot.

    Raises:
        LoadError, CheckError: why the preferred backend cannot, when none can.
    """
    options: list[Option] = []
    refused: list[Failed] = []
    broken = load_backend(REFERENCE).unsupported(model.graph)
    for backend in backends:
        try:
            options.append(Option(backend, *_fitted(model, broken, backend, target, request, io_dtype)))
        except (LoadError, CheckError) as error:
            refused.append(Failed(backend, error))
        if options and not every:
            break
    if options:
        return options, refused
    first = refused[0].error
    because = "\n".join([*([first.because] if first.because else []), *missing])
    hint = UNFIT if shaped and first.hint == _CORRECT else first.hint
    if others := able(model, target, [failed.backend.NAME for failed in refused], request, io_dtype):
        hint = "; ".join([*([hint] if hint else []), f"or give --runtime {others[0]}, which can"])
    raise type(first)(first.code, first.what, where=first.where, because=because or None, hint=hint) from first


def passed_over(refused: Iterable[Failed]) -> list[str]:
    """A note for each backend that cannot."""
    return [f"{failed.backend.NAME} was passed over: {_short(failed.error.what)}" for failed in refused]


def findings(model: Model, backends: Iterable[Backend], target: Target) -> dict[str, list[Finding]]:
    """For each backend all nodes that it cannot run, or the inputs whose open axes it wants fixed."""
    found = {}
    broken = load_backend(REFERENCE).unsupported(model.graph)
    for backend in backends:
        try:
            fixed, _ = _static(model, backend, target) if not broken else (model, [])
            found[backend.NAME] = _unsupported(fixed, broken, backend)
        except LoadError as error:
            found[backend.NAME] = [Finding("", "", f"{error.what}; {error.hint}")]
    return found


def _fitted(
    model: Model, broken: list[Finding], backend: Backend, target: Target, request: Request, io_dtype: str
) -> tuple[Model, list[str]]:
    """A model as a backend wants it, and what was changed.

    Raises:
        LoadError: DS146 the runtime does not have the precision or the inputs that were asked for, DS108 the model's
            opset is too new for it, DS106 it wants an axis fixed that is open.
        CheckError: DS201 it cannot run a node, with all such nodes.
    """
    contract = backend.contract(target)
    require_available(request, contract)
    require_io_dtype(io_dtype, contract)
    # Older ones are raised to the canonical opset, and lowering that is the backend's own work.
    greatest = max(contract.opset[1], CANONICAL_OPSET)
    if model.opset > greatest:
        what = f"{backend.NAME} reads opsets up to {greatest}, the model has {model.opset}"
        raise LoadError("DS108", what, where=model.source, hint=f"export it with opset {greatest} or below")
    fixed, notes = _static(model, backend, target) if not broken else (model, [])
    _require_supported(fixed, broken, backend)
    return fixed, notes


def _static(model: Model, backend: Backend, target: Target) -> tuple[Model, list[str]]:
    contract = backend.contract(target)
    return with_static_axes(model, backend.NAME, ranges=contract.ranges) if contract.static else (model, [])


def _unsupported(model: Model, broken: list[Finding], backend: Backend) -> list[Finding]:
    return broken if broken or backend.NAME == REFERENCE else backend.unsupported(model.graph)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def _require_supported(model: Model, broken: list[Finding], backend: Backend) -> None:
    found = _unsupported(model, broken, backend)
    if found:
        raise CheckError(
            "DS201",
            f"{backend.NAME} cannot run {counted(len(found), 'node')}: "
            + "; ".join(f"{f.op} {f.node!r}: {f.reason}" for f in found[:20])
            if found[0].op
            else f"{backend.NAME} refuses the model: {found[0].reason}",
            where=model.source,
            hint="replace these operators before the export" if found[0].op else _CORRECT,
        )
