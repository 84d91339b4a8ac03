"""The folder of a model in a repository, which is whole or not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dsedge.errors import BundleError

HEADER = "# Written by dsedge"
"""How a configuration begins that may be replaced."""


@contextmanager
def model_folder(folder: Path, name: str, *, force: bool) -> Iterator[Path]:
    """A folder that becomes the model's when the block ends well; there is always a whole one or none.

    Raises:
        BundleError: DS801 when the model is there already, DS802 when it cannot be written.
    """
    final = folder / name
    above = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        if (final.exists() or final.is_symlink()) and not (force and _is_ours(final)):
            what = "the repository has a model of that name"
            hint = "give another name, or --force to replace one that dsedge wrote"
            raise BundleError("DS801", what, where=str(final), hint=hint)
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
        raise BundleError(
            "DS802", "the repository cannot be written", where=str(final), because=error.strerror or str(error)
        ) from error
    finally:
        with contextlib.suppress(OSError):  # which are not empty when all went well
            for path in above:
                path.rmdir()


def _is_ours(model: Path) -> bool:
    config = model / "config.pbtxt"
    return not model.is_symlink() and config.is_file() and config.open("rb").read(64).startswith(HEADER.encode())
