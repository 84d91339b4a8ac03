"""A table of numbers (CSV, RFC 4180) as samples: each row, or windows of rows that follow each other.

A first row that holds anything but numbers is a header. A model whose input is [N, F] takes rows; one whose input is
[N, T, F] takes windows of T rows. The label of a window is that of its last row.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.batches import Source
from dsedge.data.files import digest_file, text_lines
from dsedge.data.fit import sample_dims
from dsedge.data.recipe import Column, TableRecipe
from dsedge.errors import LoadError, did_you_mean
from dsedge.model import TensorSpec

_MOST_NUMBERS = 1 << 27


def table_file(path: Path, inputs: Sequence[TensorSpec], recipe: TableRecipe, labelled: bool) -> Source:
    """The rows or windows of a table.

    Raises:
        LoadError: DS121 for a file that is no table of numbers, DS122 for a model that takes neither rows nor windows,
            DS123 for a table shorter than a window, DS124 for a recipe that names no label, DS127 for a column that
            there is not.
    """
    where = str(path)
    if len(inputs) != 1:
        raise LoadError("DS122", f"a table is for a model with one input, this one has {len(inputs)}", where=where)
    window = _window(inputs[0], recipe, where)
    header, cells = _read(path)
    label = None if recipe.label is None else _place(recipe.label, header, cells.shape[1], where)
    if labelled and label is None:
        raise LoadError("DS124", "no column is the label", where=where, hint="name it in the recipe: label = ...")
    wanted = [i for i in range(cells.shape[1]) if i != label]
    if recipe.columns is not None:
        wanted = [_place(column, header, cells.shape[1], where) for column in recipe.columns]
    if not wanted:
        raise LoadError("DS127", "no column is a feature", where=where)
    features = cells[:, wanted]
    labels = None if label is None or not labelled else cells[:, label]
    if labels is not None and np.array_equal(labels, np.round(labels)):
        labels = labels.astype(np.int64)
    starts = range(0, len(features) - (window or 1) + 1, recipe.stride or window or 1)

    def read() -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        for start in starts:
            last = start + (window or 1) - 1
            rows = features[last] if window is None else features[start : last + 1]
            yield {inputs[0].name: rows}, None if labels is None else labels[last]

    return Source(where, read, len(starts), lambda: digest_file(path, recipe))


def _window(spec: TensorSpec, recipe: TableRecipe, where: str) -> int | None:
    """Rows of a window; None when a sample is one row."""
    dims = sample_dims(spec)
    if dims is None or len(dims) not in (1, 2):
        what = f"the model takes {spec}, a table gives rows [F] or windows of rows [T, F]"
        raise LoadError("DS122", what, where=where)
    if len(dims) == 1:
        return None
    length = dims[0] if isinstance(dims[0], int) else recipe.window
    if length is None:
        hint = "say how many in the recipe: window = ..."
        raise LoadError("DS127", f"the model {spec} does not say how many rows a window has", where=where, hint=hint)
    return length


def _read(path: Path) -> tuple[list[str] | None, np.ndarray]:
    """The names in the header, if there is one, and the numbers, float64 [rows, columns]."""
    header: list[str] | None = None
    cells, width = array("d"), 0
    for number, text in text_lines(path):
        where = f"{path}, line {number}"
        try:
            (fields,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError) as error:
            raise LoadError("DS121", "the line is no row of a table", where=where, because=str(error)) from error
        if width and len(fields) != width:
            raise LoadError("DS121", f"the row has {len(fields)} fields, those before it {width}", where=where)
        try:
            cells.extend([float(field) for field in fields])
        except ValueError as error:
            if width:
                raise LoadError("DS121", "the row holds no numbers", where=where, because=str(error)) from error
            header = [field.strip() for field in fields]
        width = len(fields)
        if len(cells) > _MOST_NUMBERS:
            raise LoadError("DS121", f"the table has more than {_MOST_NUMBERS} numbers", where=where)
    return header, np.frombuffer(cells, np.float64).reshape(-1, max(width, 1))


def _place(column: Column, header: list[str] | None, width: int, where: str) -> int:
    if isinstance(column, int):
        if column >= width:
            raise LoadError("DS127", f"there is no column {column}, the table has {width}", where=where)
        return column
    if header is None:
        raise LoadError("DS127", f"there is no column {column!r}, the table has no header", where=where)
    if header.count(column) != 1:
        times = "no column is" if column not in header else "several columns are"
        raise LoadError("DS127", f"{times} called {column!r}", where=where, hint=did_you_mean(column, header))
    return header.index(column)
