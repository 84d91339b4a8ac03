"""What a model file is, told by its content; the name decides only where the content does not."""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dsedge.errors import LoadError

Format = Literal["onnx", "pt2", "torchscript", "checkpoint", "safetensors", "pickle"]
"""Formats that are read. "onnx" is also what nothing is known of: whoever reads it finds out."""


@dataclass(frozen=True)
class Foreign:
    """A format that is not read.

    Attributes:
        what: its name.
        hint: what to do instead.
        magic: what it begins with, from the byte `offset` on.
        offset: where that is.
        suffixes: of its files, in lower case.
    """

    what: str
    hint: str
    magic: tuple[bytes, ...] = ()
    offset: int = 0
    suffixes: tuple[str, ...] = ()


_ORIGINAL = "compile the float ONNX model that it was made from"
_TF2ONNX = "convert it with tf2onnx: python -m tf2onnx.convert --help"
PICKLE = Foreign(
    "a pickle, which can run any code when it is read",
    "export the model to ONNX; weights saved with torch.save(model.state_dict(), ...) are read with --factory",
    (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
    suffixes=(".pkl", ".pickle", ".pt", ".pth", ".ts", ".pt2", ".bin", ".ckpt", ".joblib"),
)
_FOREIGN = (
    PICKLE,
    Foreign("an ONNX Runtime flatbuffer", _ORIGINAL, (b"ORTM",), 4, (".ort",)),
    Foreign("a TensorFlow Lite model", _ORIGINAL, (b"TFL3",), 4, (".tflite",)),
    Foreign("a TensorRT engine", _ORIGINAL, (b"ptrt", b"ftrt"), 0, (".engine", ".plan", ".trt")),
    Foreign("an OpenVINO IR", _ORIGINAL, (b"<?xml", b"<net"), 0, (".xml",)),
    Foreign("a GGUF file of a language model", "dsedge does not compile language models", (b"GGUF",), 0, (".gguf",)),
    Foreign(
        "a Keras or HDF5 file",
        'export it from Keras 3: model.export("model.onnx", format="onnx")',
        (b"\x89HDF\r\n\x1a\n",),
        0,
        (".h5", ".hdf5", ".keras"),
    ),
    Foreign("a TensorFlow graph", _TF2ONNX, suffixes=(".pb",)),
    Foreign("a Core ML model", _ORIGINAL, suffixes=(".mlmodel", ".mlpackage")),
    Foreign("a zip archive without a model of PyTorch", "unpack it and give the model file in it", suffixes=(".zip",)),
)
_ZIP = _FOREIGN[-1]
_ARRAYS = Foreign("data, arrays of numpy", "give it with --calib or --eval, and a model file as MODEL")
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors format
_MAX_PICKLE = 2**20  # bytes that are looked at: what a file begins with says what it is
_OF_WEIGHTS = ("torch", "collections", "builtins", "__builtin__")


def recognise(path: Path, *, weights: bool = False) -> Format:
    """The format of a file that exists; "onnx" for all that is not known.

    Args:
        path: the file.
        weights: whether a bare pickle may be the weights of an old checkpoint.

    Raises:
        LoadError: DS103 for a format that is not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return "onnx"  # whose reader says what is wrong with the file
    if head.startswith(b"PK\x03\x04"):
        return _in_archive(path)
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return "safetensors"
    for kind in _FOREIGN:
        if any(head[kind.offset :].startswith(magic) for magic in kind.magic):
            if kind is PICKLE and weights:
                return "pickle"
            raise refusal(kind, path)
    return "onnx"


def by_suffix(path: Path) -> Foreign | None:
    """The format that a file name promises, None when it is not a foreign one."""
    return next((kind for kind in _FOREIGN if path.suffix.lower() in kind.suffixes), None)


def refusal(kind: Foreign, path: Path) -> LoadError:
    """The error for a format that is not read."""
    return LoadError("DS103", f"this is {kind.what}, not an ONNX model", where=str(path), hint=kind.hint)


def _in_archive(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            pickled = next((name for name in members if name.partition("/")[2] == "data.pkl"), None)
            head = b"" if pickled is None else archive.open(pickled).read(_MAX_PICKLE)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise LoadError("DS102", "a damaged zip archive", where=str(path), because=str(error)) from error
    inner = {name.partition("/")[2] for name in members}  # archives of PyTorch have one folder at the top
    if "models/model.json" in inner or "archive_format" in inner or "serialized_exported_program.json" in members:
        return "pt2"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "data.pkl" in inner:
        if found := _foreign_class(head):
            what = f"this is a pickle that holds a {found}, no weights alone; reading it can run any code"
            hint = "save its weights, torch.save(model.state_dict(), ...), and give --factory; or export it to ONNX"
            raise LoadError("DS103", what, where=str(path), hint=hint)
        return "checkpoint"
    keras = next(kind for kind in _FOREIGN if ".keras" in kind.suffixes)
    arrays = bool(members) and all(name.endswith(".npy") for name in members)
    raise refusal(_ARRAYS if arrays else keras if "model.weights.h5" in members else _ZIP, path)


def _foreign_class(pickle: bytes) -> str | None:
    """The first class that a pickle names and that no file of weights has, without running it; None when none is."""
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name != "GLOBAL":  # PyTorch writes protocol 2, which has no other way to name one
                continue
            module, _, name = str(argument).partition(" ")
            if module.split(".")[0] not in _OF_WEIGHTS or module.startswith("torch.nn.modules"):
                return f"{module}.{name}"
    except ValueError:  # cut, or damaged: who reads it says so
        pass
    return None
