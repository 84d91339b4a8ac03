"""What a `.pt2` file must be before `torch.export` may read it.

PyTorch's reader trusts its file: it unpickles, evaluates expressions of shapes with sympy's `sympify`, looks operators
up as attributes of the module `torch`, puts names of values into Python code that it runs, imports modules that a
description of nested inputs names, and loads compiled libraries. So a file is read only when it holds nothing but what
`torch.export.save` writes for a graph of `aten` operators over plain tensors: every string in it is matched against
what may stand in its place.
"""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

from dsedge.frontend.archive import open_archive, unsafe

_MODEL, _EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_RECORDS = re.compile(
    r"models/model\.json|archive_format|archive_version|byteorder|\.data/(version|serialization_id)|extra/.*"
    r"|data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)"
)

_WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?")
_NAME = re.compile(r"[A-Za-z0-9_.@+\-]*")  # of parameters and modules: layers.0.weight
_SYMBOL = r"(?:Symbol\('[su]\d{1,6}'(?:, (?:positive|nonnegative|integer)=True)*\)|[su]\d{1,6}\b)"
_EXPRESSION = re.compile(
    rf"(?:{_SYMBOL}|Pow\({_SYMBOL}, Integer\(2\)\)|Integer\(-?\d{{1,18}}\)|-?\d{{1,18}}\b"
    r"|Float\('\d{1,9}(?:\.\d{1,20})?', precision=\d{1,3}\)|true|false"
    r"|(?:Add|Mul|Max|Min|Mod|FloorDiv|CleanDiv|CeilDiv|PythonMod|IntTrueDiv|FloatTrueDiv|ToFloat|CeilToInt|FloorToInt"
    r"|TruncToInt|(?:Strict)?(?:Greater|Less)Than|Equality|Unequality|And|Or|Not)(?=\()|[(), ])*"
)
_GUARD = re.compile(  # comparisons of sizes of inputs, which PyTorch runs as Python
    r"(?:L\['\w{1,99}'\]|\[\d{1,9}\]|\['\w{1,99}'\]|\.size\(\)|\.stride\(\)|\.storage_offset\(\)|\d{1,18}\b"
    r"|(?:Max|Min|Mod)(?=\()|\b(?:and|or|not)\b|==|!=|[<>]=?|[+\-*/%(), ])*",
    re.ASCII,
)
_RANGE = re.compile(r"[su0-9*+/() \-]{1,200}")  # never evaluated, only compared
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.(?!from_file)\w+\.\w+|torch\.sym_(max|min|sum|not|ite|float)"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|lt|le|gt|ge|eq|ne|and_|or_)|math\.(ceil|floor|trunc)",
    re.ASCII,
)
_TREE_TYPES = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None)
_WORDS = ("name", "as_name")  # keys whose text becomes a variable of the code that PyTorch makes
_PATTERNS = {"expr_str": _EXPRESSION, "guards_code": _GUARD, "target": _TARGET, **dict.fromkeys(_WORDS, _WORD)}
_WORD_MAPS = ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values")
_FREE = ("as_string", "as_strings", "metadata", "torch_version")  # never looked up, imported or run
_REFUSED = ("as_custom_obj", "as_operator", "custom_obj", "custom_obj_values")


class _Unsafe(ValueError):
    """Why a file is not read."""


def check_pt2(path: Path) -> None:
    """Look through a `.pt2` file.

    Raises:
        LoadError: DS102 when the archive is damaged, DS103 when something in it is not of the kind that is read.
    """
    import torch

    reader = open_archive(path)
    names = set(reader.get_all_records())
    try:
        for name in names:
            if not _RECORDS.fullmatch(name):
                raise _Unsafe(f"it holds {name[:80]!r}")
        if missing := sorted({_MODEL, _EXAMPLES, *_CONFIGS} - names):
            raise _Unsafe(f"{missing[0]!r} is missing; PyTorch 2.8 and later write it")
        _strings(json.loads(reader.get_record(_MODEL)), "")
        for config in _CONFIGS:
            for tensor in json.loads(reader.get_record(config))["config"].values():
                _payload(tensor, config.rpartition("/")[0], reader)
        if examples := reader.get_record(_EXAMPLES):
            torch.load(io.BytesIO(examples), weights_only=True)
    except Exception as error:  # whatever a hostile file leads to
        raise unsafe(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def _strings(part: Any, key: str) -> None:
    if isinstance(part, dict):
        for name, value in part.items():
            if name in _REFUSED and value:
                raise _Unsafe(f"it holds an object of a class of its own ({name})")
            _match(_WORD if key in _WORD_MAPS else _RANGE if key == "range_constraints" else _NAME, name, key)
            if name not in _FREE:
                _strings(value, name)
    elif isinstance(part, list):
        for value in part:
            _strings(value, key)
    elif isinstance(part, str):
        if key in ("in_spec", "out_spec"):
            _tree(json.loads(part)[1]) if part else None
        else:
            _match(_PATTERNS.get(key, _NAME), part, key)


def _match(pattern: re.Pattern[str], text: str, key: str) -> None:
    if not pattern.fullmatch(text):
        raise _Unsafe(f"{text[:80]!r} is not read as {key or 'a name'}")


def _tree(spec: Any) -> None:
    """The nesting of inputs and outputs: tuples, lists and dicts with plain keys."""
    if spec["type"] not in _TREE_TYPES:
        raise _Unsafe(f"inputs or outputs are a {str(spec['type'])[:80]!r}")
    context = json.loads(spec["context"]) if spec["context"] else None
    if not (context is None or (isinstance(context, list) and all(isinstance(key, str | int) for key in context))):
        raise _Unsafe(f"inputs or outputs are described by {str(context)[:80]!r}")
    for child in spec["children_spec"]:
        _tree(child)


def _payload(tensor: dict[str, Any], folder: str, reader: Any) -> None:
    """A weight must be plain numbers, as many as its record holds."""
    record = f"{folder}/{tensor['path_name']}"
    if tensor["use_pickle"] or not _RECORDS.fullmatch(record):
        raise _Unsafe(f"the weight {record[:80]!r} is a pickle")
    sizes = [size["as_int"] for size in tensor["tensor_meta"]["sizes"]]
    if min(sizes, default=1) < 0 or math.prod(sizes) > reader.get_record_size(record):
        raise _Unsafe(f"the weight {record!r} is declared larger than it is: {sizes}")
