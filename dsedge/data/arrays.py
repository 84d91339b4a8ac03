"""Reads .npz and .npy files from anywhere: no pickles, and nothing is allocated that the file does not hold.

Format: NumPy enhancement proposal 1 (NPY); an .npz file is a zip archive of .npy members. Every exception of
the parsers is caught, since hostile bytes make zipfile and the header's parser raise nearly any.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from dsedge.errors import LoadError

MAX_BYTES = 8 << 30
"""The largest array that is read, in bytes."""


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an .npz file.

    Raises:
        LoadError: DS121 when it is no zip archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except Exception as error:
        raise _unreadable(path, error) from error


def read_npz(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file, in memory.

    Raises:
        LoadError: DS121 when the file is truncated, holds objects, or declares more than `MAX_BYTES` for an array.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                with archive.open(f"{name}.npy") as member:
                    _check_header(member, archive.getinfo(f"{name}.npy").file_size)
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = npy.read_array(member, allow_pickle=False)
    except Exception as error:
        raise _unreadable(path, error) from error
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, mapped into memory: what is not looked at is not read.

    Raises:
        LoadError: DS121 as in `read_npz`.
    """
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise _unreadable(path, error) from error
    return array


def _check_header(file: IO[bytes], size: int) -> None:
    """Raises ValueError unless the header declares plain values, exactly as many bytes of them as the file has."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NPY format {version[0]}.{version[1]} is not read")
    read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects (a pickle), only plain numbers are read")
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or declared > MAX_BYTES:
        raise ValueError(f"it declares {declared} bytes, the limit is {MAX_BYTES}")
    if file.tell() + declared != size:
        raise ValueError(f"it declares {declared} bytes of data and has {size - file.tell()}")


def _unreadable(path: Path, error: Exception) -> LoadError:
    because = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LoadError("DS121", "the data file cannot be read", where=str(path), because=because or type(error).__name__)
