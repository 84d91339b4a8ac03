"""Files of samples: which ones a folder has, what their labels are, and what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dsedge.errors import LoadError

if TYPE_CHECKING:
    from dsedge.data.recipe import Recipe

MAX_TEXT_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 24


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files below a folder in a fixed order: by the bytes of their path inside it. Hidden files are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted((p for p in found if not p.name.startswith(".")), key=lambda p: p.relative_to(folder).as_posix())


def class_indices(folder: Path, files: list[Path]) -> list[int]:
    """The label of each file: the place of its subfolder among the sorted ones (torchvision's ImageFolder).

    Raises:
        LoadError: DS124 when a file lies in no subfolder.
    """
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts = [path.relative_to(folder).parts for path in files]
    if loose := [file for file, part in zip(files, parts, strict=True) if len(part) == 1]:
        hint = "put the files of each class into a subfolder of its own"
        raise LoadError("DS124", "the file has no label", where=str(loose[0]), hint=hint)
    return [classes.index(part[0]) for part in parts]


def digest(folder: Path, files: list[Path], recipe: Recipe | None) -> str:
    """sha256, in hex, of the recipe and of the files' names and bytes."""
    total = hashlib.sha256(recipe.model_dump_json().encode() if recipe else b"")
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def digest_file(path: Path, recipe: Recipe | None = None) -> str:
    """sha256, in hex, of the bytes of a file, or of a recipe and those."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(f"{recipe.model_dump_json()}\0{content}".encode()).hexdigest() if recipe else content


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number, from 1, and the text of each line that is not blank, without what ends it.

    Raises:
        LoadError: DS121 when the file cannot be read, is larger than 1 GiB, is not UTF-8, or has a line over 16 MiB.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise LoadError("DS121", f"the file is larger than {MAX_TEXT_BYTES} bytes", where=str(path))
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    what = f"the line is longer than {MAX_LINE_BYTES} bytes"
                    raise LoadError("DS121", what, where=f"{path}, line {number}")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield number, text
    except OSError as error:
        raise LoadError("DS121", "the data file cannot be read", where=str(path), because=error.strerror) from error
    except UnicodeDecodeError as error:
        raise LoadError("DS121", "the file is not UTF-8", where=f"{path}, line {number}", because=str(error)) from error
