"""Which bundles make one model on Triton."""

from __future__ import annotations

from collections.abc import Sequence

from dsedge.bundle import MANIFEST, Bundle
from dsedge.choose import missing_runtimes, usable_backends
from dsedge.emit.triton.config import BACKENDS
from dsedge.errors import BundleError, LoadError
from dsedge.target import Target


def one_model(bundles: Sequence[Bundle]) -> Bundle:
    """The first of the bundles, all files checked, where they are one model for one of Triton's backends.

    Raises:
        LoadError: DS145.
    """
    if not bundles:
        raise LoadError("DS145", "there is no bundle to emit")
    for bundle in bundles:
        bundle.check_files()
        _require_tensors(bundle)
    first, *others = (bundle.manifest for bundle in bundles)
    require_backend(first.runtime.name, str(bundles[0].path))
    if others and first.runtime.name != "tensorrt":
        what = f"of {first.runtime.name} one bundle makes a model, not {len(bundles)}"
        because = "only engines of TensorRT are chosen by the GPU"
        raise LoadError("DS145", what, because=because, hint="emit them one by one, each with a name of its own")
    for bundle, other in zip(bundles[1:], others, strict=True):
        for what, one, two in (
            ("runtime", first.runtime.name, other.runtime.name),
            ("model", first.model.fingerprint, other.model.fingerprint),
            ("inputs", first.model.inputs, other.model.inputs),
            ("outputs", first.model.outputs, other.model.outputs),
        ):
            if one != two:
                hint = "compile one model, with the same options, for each GPU"
                raise LoadError("DS145", f"not the {what} of {bundles[0].path}", where=str(bundle.path), hint=hint)
    return bundles[0]


def require_backend(runtime: str, where: str) -> None:
    """Refuse a runtime that Triton has no backend for.

    Raises:
        LoadError: DS145.
    """
    if runtime not in BACKENDS:
        hint = f"compile with --runtime {' or '.join(BACKENDS)}, where the board has it"
        raise LoadError("DS145", f"Triton has no backend for {runtime}", where=where, hint=hint)


def require_any_backend(target: Target) -> None:
    """Refuse a target that has no usable runtime that Triton has a backend for.

    Raises:
        LoadError: DS145, and what `usable_backends` raises.
    """
    names = [backend.NAME for backend in usable_backends(target, "auto")[0]]
    if not BACKENDS.keys() & names:
        what = f"Triton has no backend for {', '.join(names)}, and {target.name} runs on nothing else here"
        because = "; ".join(f"{name} {why}" for name, why in missing_runtimes(target).items())
        hint = f"compile for a target with {' or '.join(BACKENDS)}, or without --emit"
        raise LoadError("DS145", what, where="--emit", because=because or None, hint=hint)


def _require_tensors(bundle: Bundle) -> None:
    """Refuse a manifest that does not describe its inputs and outputs.

    Raises:
        BundleError: DS803.
    """
    for spec in [*bundle.manifest.model.inputs, *bundle.manifest.model.outputs]:
        texts = (spec.get("name"), spec.get("dtype"), spec.get("layout") or "")
        shape = spec.get("shape", 0)
        axes = shape is None or (isinstance(shape, list) and all(isinstance(a, int | str | None) for a in shape))
        if not axes or not all(isinstance(text, str) for text in texts):
            what, hint = f"an input or output is described as {spec}"[:300], "compile again"
            raise BundleError("DS803", what, where=str(bundle.path / MANIFEST), hint=hint)
