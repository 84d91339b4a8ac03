"""A text file of token ids, one sequence a line, as the integer inputs of an encoder.

A line is a JSON array of ids, a JSON object with an array for each input that it gives (by the input's name) and
optionally `label`, or, in a .txt file, ids with blanks or commas between them. The ids are those of the model's own
tokenizer, special tokens included. Where the model fixes the length, longer sequences are cut and shorter ones filled;
where it does not, every sequence keeps its own length, up to the recipe's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.batches import Source
from dsedge.data.files import digest_file, text_lines
from dsedge.data.fit import sample_dims
from dsedge.data.recipe import TokenRecipe
from dsedge.errors import LoadError
from dsedge.model import TensorSpec

LABEL = "label"
_IDS = ("int64", "int32")
_MASKS = (*_IDS, "bool", "float32", "float16")


def token_file(path: Path, inputs: Sequence[TensorSpec], recipe: TokenRecipe, labelled: bool) -> Source:
    """The sequences of a file.

    Raises:
        LoadError: DS121 for a line that is no sequence, DS122 for a model whose inputs are no sequences of integers or
            that the line does not give, DS124 for a line without a label.
    """
    ids = inputs[0].name if len(inputs) == 1 else recipe.ids
    lengths = {spec.name: _length(spec, recipe, str(path)) for spec in inputs}
    count = sum(1 for _ in text_lines(path))

    def read() -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        for number, text in text_lines(path):
            where = f"{path}, line {number}"
            line = _parse(text, path.suffix.lower() == ".txt", ids, where)
            arrays = {}
            for spec in inputs:
                sequence = _sequence(line, spec.name, ids, recipe, where)
                fixed, dtype = lengths[spec.name]
                array = np.asarray(sequence[: fixed or recipe.length], np.int64)
                filled = np.pad(
                    array,
                    (0, (fixed or len(array)) - len(array)),
                    constant_values=recipe.pad if spec.name == ids else 0,
                )
                if dtype.kind == "i" and filled.max() > np.iinfo(dtype).max:
                    raise LoadError("DS122", f"{filled.max()} does not fit into {dtype}", where=where)
                arrays[spec.name] = filled.astype(dtype)
            yield arrays, line.get(LABEL) if labelled else None

    return Source(str(path), read, count, lambda: digest_file(path, recipe))


def _length(spec: TensorSpec, recipe: TokenRecipe, where: str) -> tuple[int | None, np.dtype[Any]]:
    """The length that the model fixes and the dtype of an input."""
    dims = sample_dims(spec)
    taken = _MASKS if spec.name == recipe.mask else _IDS
    if dims is None or len(dims) != 1 or spec.dtype not in taken:
        hint = "give the samples as an .npz file"
        raise LoadError("DS122", f"the input {spec} takes no sequence of token ids", where=where, hint=hint)
    return dims[0] if isinstance(dims[0], int) else None, np.dtype(spec.dtype)


def _parse(text: str, plain: bool, ids: str, where: str) -> Mapping[str, Any]:
    """What a line gives, by the name of an input; `label` besides."""
    try:
        if plain:
            return {ids: [int(field) for field in text.replace(",", " ").split()]}
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError("DS121", "the line holds no token ids", where=where, because=str(error)) from error
    return found if isinstance(found, dict) else {ids: found}


def _sequence(line: Mapping[str, Any], name: str, ids: str, recipe: TokenRecipe, where: str) -> list[int]:
    sequence = line.get(name)
    if sequence is None and name in (recipe.mask, recipe.types) and isinstance(line.get(ids), list):
        sequence = [int(name == recipe.mask)] * len(line[ids])
    if sequence is None:
        hint = "let the line be an object with an array for each input, or name the inputs in the recipe"
        raise LoadError("DS122", f"the line gives nothing for the input {name!r}", where=where, hint=hint)
    if not isinstance(sequence, list) or not sequence or not all(type(i) is int for i in sequence):
        raise LoadError("DS121", f"{name!r} is no array of integers", where=where)
    if not all(0 <= i < 1 << 63 for i in sequence):
        raise LoadError("DS121", f"{name!r} holds an id below 0 or above 2^63", where=where)
    return sequence
