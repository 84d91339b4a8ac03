"""The folder of a model in a repository, which is whole or not there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dsedge.errors import BundleError, LoadError

HEADER = "# Written by dsedge"
"""How a configuration begins that may be replaced."""


def require_place(folder: Path, name: str, *, force: bool) -> None:
    """Refuse a name that is none for Triton, and a place that is taken.

    Raises:
        LoadError: DS145 for the name.
        BundleError: DS801 when the model is there already, DS802 when the repository cannot be read or is no folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,127}", name, re.ASCII):
        what = f"{name!r} cannot be the name of a model on Triton"
        raise LoadError("DS145", what, because="it is a folder and a part of URLs", hint="give another name")
    final = folder / name
    try:
        if folder.exists() and not folder.is_dir():
            raise BundleError("DS802", "the repository is no folder", where=str(folder), hint="give another -o")
        taken = (final.exists() or final.is_symlink()) and not (force and _is_ours(final))
    except OSError as error:
        raise _unwritable(final, error) from error
    if taken:
        what = "the repository has a model of that name"
        hint = "give another name, or --force to replace one that dsedge wrote"
        raise BundleError("DS801", what, where=str(final), hint=hint)


@contextmanager
def model_folder(folder: Path, name: str, *, force: bool) -> Iterator[Path]:
    """A folder that becomes the model's when the block ends well; there is always a whole one or none.

    Raises:
        LoadError, BundleError: of `require_place`; DS802 when it cannot be written.
    """
    require_place(folder, name, force=force)
    final = folder / name
    above = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
            made = Path(temporary) / name
            made.mkdir()
            yield made
            if final.exists():
                final.rename(Path(temporary) / "old")
            made.rename(final)
        above = []
    except OSError as error:
        raise _unwritable(final, error) from error
    finally:
        with contextlib.suppress(OSError):  # which are not empty when all went well
            for path in above:
                path.rmdir()


def _unwritable(final: Path, error: OSError) -> BundleError:
    because = error.strerror or str(error)
    return BundleError("DS802", "the repository cannot be written", where=str(final), because=because)


def _is_ours(model: Path) -> bool:
    config = model / "config.pbtxt"
    return not model.is_symlink() and config.is_file() and config.open("rb").read(64).startswith(HEADER.encode())
