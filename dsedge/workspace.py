"""The workspace: a folder in which a bundle is made, and which becomes the bundle when all went well."""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsedge.bundle import MANIFEST
from dsedge.errors import BundleError


@contextmanager
def workspace(output: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder that becomes `output` when the block ends well, and vanishes when it does not.

    So do the folders above `output` that were made for it.

    Args:
        output: where the bundle will be.
        force: replace a bundle that is there already. A folder that holds anything else is never replaced.

    Raises:
        BundleError: DS801 when `output` exists, DS802 when it cannot be written.
    """
    temporary: Path | None = None
    above: list[Path] = []
    try:
        _refuse_what_is_there(output, force=force)
        above = [folder for folder in output.parents if not folder.exists()]
        output.parent.mkdir(parents=True, exist_ok=True)
        # Its name is known before it is there: an interrupt at any moment finds what to remove.
        temporary = output.parent / f".{output.name}.{secrets.token_hex(4)}"
        temporary.mkdir()
        yield temporary
        _refuse_what_is_there(output, force=force)  # again: another compilation may have ended meanwhile
        _replace(temporary, output)
    except OSError as error:
        if temporary is not None and error.errno not in _NO_SPACE and not _lies_in(temporary, error.filename):
            raise
        raise BundleError(
            "DS802",
            "the output folder cannot be written",
            where=str(output),
            because=error.strerror or str(error),
            hint="free some space, or give another -o",
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):  # which are not empty when all went well
            for folder in above:
                folder.rmdir()


_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def _lies_in(folder: Path, name: object) -> bool:
    return isinstance(name, str) and Path(name).is_relative_to(folder)


def _refuse_what_is_there(output: Path, *, force: bool) -> None:
    if not (output.exists() or output.is_symlink()):
        return
    empty = output.is_dir() and not any(output.iterdir())
    replaceable = empty or _is_a_bundle_alone(output)
    if not empty and not (force and replaceable):
        raise BundleError(
            "DS801",
            "the output folder exists" if replaceable else "the output path is taken by something else",
            where=str(output),
            hint="give --force to replace it, or another -o" if replaceable else "give another -o",
        )


def _is_a_bundle_alone(folder: Path) -> bool:
    """Whether a folder holds a bundle and nothing else, so that nothing of the user's is lost with it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = {info["path"] for info in manifest["files"]} | {MANIFEST}
        ours = bool(manifest["dsedge"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return ours and all(path.is_file() and path.name in known for path in folder.iterdir())


def _replace(temporary: Path, output: Path) -> None:
    if not output.exists():
        temporary.rename(output)
        return
    old = output.parent / f".{output.name}.old.{secrets.token_hex(4)}"
    try:
        output.rename(old)
        temporary.rename(output)
    except BaseException:  # an interrupt too: there is always one whole bundle
        if not output.exists():
            old.rename(output)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
