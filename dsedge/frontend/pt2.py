"""`.pt2` files, which `torch.export.save` writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dsedge.errors import LoadError
from dsedge.frontend.pt2_check import check_pt2
from dsedge.frontend.torch import export, quiet, read_export, require_torch
from dsedge.model import Model


def load_pt2(path: Path) -> Model:
    """Load an exported program and export it to ONNX; its dynamic axes stay open.

    Args:
        path: the file. What may be in it is told in `pt2_check`.

    Raises:
        LoadError: DS102 damaged, DS103 not safe to read, DS107 PyTorch could not read or export it.
        BuildError: DS402 when PyTorch or onnxscript is missing.
    """
    require_torch()
    # torch.export.load() would fall back to an older format, which is pickles, when this one fails.
    from torch.export.pt2_archive._package import load_pt2 as read

    check_pt2(path)
    try:
        with quiet():
            program = read(str(path)).exported_programs["model"]
    except Exception as error:  # whatever a hostile file leads to
        because = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "save it again with the version of PyTorch that is installed here"
        raise LoadError("DS107", "PyTorch cannot read the file", where=str(path), because=because, hint=hint) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return read_export(export(program, str(path)), path.stem, str(path), digest)
