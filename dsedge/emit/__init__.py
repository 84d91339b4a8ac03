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

FORMS = ("triton",)


def require_form(form: str) -> None:
    """Refuse a form that is not known, before any work is done.

    Raises:
        LoadError: DS145.
    """
    if form not in FORMS:
        raise LoadError("DS145", f"there is no form {form!r} to emit", where="--emit", hint=did_you_mean(form, FORMS))


def emit(
    form: str, bundles: Sequence[Bundle], folder: Path, *, force: bool = False, max_batch: int | None = None
) -> Repository:
    """Write bundles in a form, see `dsedge.emit.triton.write_repository`.

    Raises:
        DsedgeError: DS145 for a form that is not known, or what `write_repository` raises.
    """
    require_form(form)
    from dsedge.emit.triton import write_repository

    return write_repository(bundles, folder, force=force, max_batch=max_batch)
