"""Archives of PyTorch: what is in them is looked at before PyTorch itself opens them.

PyTorch reads its archives with a zip reader of its own. The same reader is used here, so that what was looked at is
what is loaded, whatever a second directory or a doubled name in the file may say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsedge.errors import LoadError

_ROOM = 2**28  # bytes that compressed records may grow to beyond the size of the file


def open_archive(path: Path) -> Any:
    """A `torch._C.PyTorchFileReader`, after the sizes that the records declare were summed up.

    Raises:
        LoadError: DS102 for a damaged archive, DS103 for one that would grow far beyond its size.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        names = reader.get_all_records()
        total = sum(reader.get_record_size(name) for name in names)
    except RuntimeError as error:
        because = str(error).splitlines()[0]
        raise LoadError("DS102", "a damaged archive of PyTorch", where=str(path), because=because) from error
    if total > path.stat().st_size + _ROOM:
        raise unsafe(path, f"unpacked it would take {total} bytes")
    folded = [name.casefold() for name in names]  # the reader finds names in any case
    if len(set(folded)) < len(folded):
        raise unsafe(path, "a name occurs twice in it")
    return reader


def unsafe(path: Path, because: str) -> LoadError:
    """DS103 for an archive that is not opened."""
    hint = "where you trust the file, load it with PyTorch yourself and export it to ONNX"
    return LoadError("DS103", "this archive of PyTorch is not opened", where=str(path), because=because, hint=hint)
