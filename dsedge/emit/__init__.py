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


def require_form(form: str, runtime: str = "auto") -> None:
    """Refuse a form that is not known, or that has no place for a runtime, before any work is done.

    Raises:
        LoadError: DS145.
    """
    if form not in FORMS:
        raise LoadError("DS145", f"there is no form {form!r} to emit", where="--emit", hint=did_you_mean(form, FORMS))
    from dsedge.emit.triton.bundles import require_backend

    if runtime != "auto":
        require_backend(runtime, "--runtime")


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
