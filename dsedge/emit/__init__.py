"""Emit: finished bundles in the form that a server takes them in.

Nothing is compiled here. A form is a module of this package that writes a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsedge.errors import LoadError, did_you_mean

if TYPE_CHECKING:
    from dsedge.bundle import Bundle
    from dsedge.emit.triton import Repository
    from dsedge.target import Target

FORMS = ("triton",)


def require_form(form: str) -> None:
    """Refuse a form that is not known.

    Raises:
        LoadError: DS145.
    """
    if form not in FORMS:
        raise LoadError("DS145", f"there is no form {form!r} to emit", where="--emit", hint=did_you_mean(form, FORMS))


def require_emit(form: str, folder: Path, name: str, target: Target, runtime: str, *, force: bool) -> None:
    """Refuse what `emit` would of a bundle that is to be compiled, as far as it is known before.

    Args:
        form: one of `FORMS`.
        folder: that will be written.
        name: of the model.
        target: the board.
        runtime: that was asked for; of "auto" one of the target's must do, and may yet lose to another.
        force: as for `emit`.

    Raises:
        DsedgeError: DS145 for the form, the name or the runtimes, DS801 or DS802 for the folder, or what
            `usable_backends` raises.
    """
    require_form(form)
    from dsedge.emit.triton.bundles import require_any_backend, require_backend
    from dsedge.emit.triton.place import require_place

    if runtime == "auto":
        require_any_backend(target)
    else:
        require_backend(runtime, "--runtime")
    require_place(folder, name, force=force)


def emit(
    form: str,
    bundles: Sequence[Bundle],
    folder: Path,
    *,
    name: str | None = None,
    max_batch: int | None = None,
    force: bool = False,
) -> Repository:
    """Write bundles in a form, see `dsedge.emit.triton.write_repository`.

    Raises:
        DsedgeError: DS145 for a form that is not known, or what `write_repository` raises.
    """
    require_form(form)
    from dsedge.emit.triton import write_repository

    return write_repository(bundles, folder, name=name, max_batch=max_batch, force=force)
