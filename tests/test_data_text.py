"""Token ids, tables, and folders of .npz files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_data_noise import BOOL, FLOAT, INT32, INT64, encoder, unused

from dsedge.data import Data, open_data
from dsedge.errors import LoadError
from dsedge.model import Model

ENCODER = encoder()
FIXED = encoder(4)


def shapes(data: Data, name: str, max_batch: int = 1) -> list[tuple[int, ...]]:
    return [batch.feeds[name].shape for batch in data.batches(max_batch)]


def refused(path: Path, model: Model, code: str, *words: str, **options: Any) -> None:
    with pytest.raises(LoadError) as caught:
        list(open_data(path, model, **options).batches())
    assert caught.value.code == code and all(word in str(caught.value) for word in words), str(caught.value)


def recipe(folder: Path, **fields: Any) -> Path:
    defaults = {"title": "t", "why": "w", "method": "minmax"} | fields
    path = folder / "r.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in defaults.items()))
    return path


# Token ids


def test_sequences_keep_their_lengths_where_the_model_leaves_them_open(tmp_path: Path) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_text("[1, 2, 3]\n[4, 5, 6]\n\n[7, 8]\n" + json.dumps(list(range(9)) * 20) + "\n")
    data = open_data(path, ENCODER, recipe="tokens")
    assert data.samples == 4
    assert shapes(data, "input_ids", 8) == [(2, 3), (1, 2), (1, 128)], "equal lengths together, cut at 128"
    assert shapes(data, "token_type_ids") == [(1, 3), (1, 3), (1, 2), (1, 128)]
    batch = next(data.batches())
    assert batch.feeds["input_ids"].tolist() == [[1, 2, 3]] and batch.feeds["input_ids"].dtype == np.int32
    assert batch.feeds["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch.feeds["token_type_ids"].tolist() == [[0, 0, 0]]


def test_a_fixed_length_is_filled_and_cut(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1 2\n3, 4, 5, 6, 7\n")
    steps = recipe(tmp_path, kind="tokens", pad=8, length=128)
    (batch,) = open_data(tmp_path / "ids.txt", FIXED, recipe=steps).batches(8)
    assert batch.feeds["input_ids"].tolist() == [[1, 2, 8, 8], [3, 4, 5, 6]]
    assert batch.feeds["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_masks_of_any_dtype(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1 2\n")
    for kind, dtype in ((FLOAT, np.float32), (BOOL, np.bool_)):
        source = unused(input_ids=(INT64, ["n", 4]), attention_mask=(kind, ["n", 4]))
        (batch,) = open_data(tmp_path / "ids.txt", source, recipe="tokens").batches()
        mask = batch.feeds["attention_mask"]
        assert mask.dtype == dtype and mask.tolist() == [[1, 1, 0, 0]]


def test_lines_may_be_objects_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "ids.jsonl"
    lines = [{"input_ids": [1, 2, 3], "token_type_ids": [0, 1, 1], "label": 1}, {"input_ids": [4, 5], "label": 0}]
    path.write_text("\n".join(map(json.dumps, lines)))
    (batch,) = open_data(path, FIXED, recipe="tokens", labelled=True).batches(8)
    assert batch.feeds["token_type_ids"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert batch.labels is not None and batch.labels.tolist() == [1, 0]
    path.write_text("[1, 2]")
    refused(path, FIXED, "DS124", "no label", recipe="tokens", labelled=True)


def test_one_input_of_any_name_and_inputs_that_nothing_is_given_for(tmp_path: Path) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_text("[1, 2]")
    assert next(open_data(path, unused(x=(INT64, ["n", "t"])), recipe="tokens").batches()).feeds["x"].tolist() == [
        [1, 2]
    ]
    more = unused(input_ids=(INT64, ["n", "t"]), position_ids=(INT64, ["n", "t"]))
    refused(path, more, "DS122", "'position_ids'", recipe="tokens")
    path.write_text('{"input_ids": [1, 2], "position_ids": [0, 1]}')
    assert len(list(open_data(path, more, recipe="tokens").batches())) == 1
    refused(path, unused(x=(FLOAT, ["n", "t"])), "DS122", "no sequence of token ids", recipe="tokens")
    refused(path, unused(x=(INT64, ["n", "t", 2])), "DS122", "no sequence of token ids", recipe="tokens")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("[1, 2.5]", "DS121", "no array of integers"),
        ("[true]", "DS121", "no array of integers"),
        ("[]", "DS121", "no array of integers"),
        ("3", "DS121", "no array of integers"),
        ("[-1]", "DS121", "below 0"),
        ("[9223372036854775808]", "DS121", "above"),
        ("[4294967296]", "DS122", "int32"),
        ("[1, 2", "DS121", "line 2"),
        ("[" * 100_000, "DS121", "line 2"),
        ("[" + "1" * 5000 + "]", "DS121", "line 2"),
        ('{"ids": [1]}', "DS122", "'input_ids'"),
        ("\udcff", "DS121", "UTF-8"),
        ("[1, " + " " * (1 << 24) + "2]", "DS121", "longer than"),
    ],
)
def test_hostile_lines(tmp_path: Path, line: str, code: str, words: str) -> None:
    path = tmp_path / "ids.jsonl"
    path.write_bytes(b"[1, 2]\n" + line.encode(errors="surrogateescape"))
    refused(path, ENCODER, code, words, "line 2", recipe="tokens")


def test_text_needs_its_recipe(tmp_path: Path) -> None:
    for name, hint in (("a.txt", "--recipe tokens"), ("a.csv", "--recipe tabular")):
        (tmp_path / name).write_text("1,2\n")
        refused(tmp_path / name, ENCODER, "DS127", hint)
        refused(tmp_path / name, ENCODER, "DS127", hint, recipe="imagenet")
    (tmp_path / "empty.jsonl").touch()
    refused(tmp_path / "empty.jsonl", ENCODER, "DS123", recipe="tokens")


# Tables

TABLE = "time,amount,class\n0,1.5,0\n1,2.5,0\n2,3.5,1\n3,4.5,0\n4,5.5,1\n"
ROWS = unused(x=(FLOAT, ["n", 2]))
WINDOWS = unused(x=(FLOAT, ["n", 2, 2]))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff" + TABLE)
    return path


def test_rows(table: Path) -> None:
    steps = recipe(table.parent, kind="table", label="class")
    (batch,) = open_data(table, ROWS, recipe=steps, labelled=True).batches(8)
    assert batch.feeds["x"].tolist() == [[0, 1.5], [1, 2.5], [2, 3.5], [3, 4.5], [4, 5.5]]
    assert batch.labels is not None and batch.labels.tolist() == [0, 0, 1, 0, 1] and batch.labels.dtype == np.int64
    table.write_text(TABLE.partition("\n")[2])
    again = next(open_data(table, ROWS, recipe=recipe(table.parent, kind="table", label=2)).batches(8))
    np.testing.assert_array_equal(again.feeds["x"], batch.feeds["x"])
    assert open_data(table, unused(x=(FLOAT, ["n", 3])), recipe="tabular").samples == 5, "without a label all columns"
    chosen = recipe(table.parent, kind="table", columns=[1, 0])
    assert next(open_data(table, ROWS, recipe=chosen).batches()).feeds["x"].tolist() == [[1.5, 0]]


def test_windows_have_the_label_of_their_last_row(table: Path) -> None:
    steps = recipe(table.parent, kind="table", label="class")
    (batch,) = open_data(table, WINDOWS, recipe=steps, labelled=True).batches(8)
    assert batch.feeds["x"].tolist() == [[[0, 1.5], [1, 2.5]], [[2, 3.5], [3, 4.5]]]
    assert batch.labels is not None and batch.labels.tolist() == [0, 0]
    steps = recipe(table.parent, kind="table", label="class", stride=1, window=3)
    (batch,) = open_data(table, unused(x=(FLOAT, ["n", "t", 2])), recipe=steps, labelled=True).batches(8)
    assert batch.feeds["x"].shape == (3, 3, 2)
    assert batch.labels is not None and batch.labels.tolist() == [1, 0, 1]


def test_tables_and_recipes_that_do_not_fit(table: Path) -> None:
    steps = recipe(table.parent, kind="table", label="clas")
    refused(table, ROWS, "DS127", "did you mean 'class'", recipe=steps)
    refused(table, ROWS, "DS122", "[3]", recipe="tabular")
    refused(table, unused(x=(FLOAT, ["n", "t", 3])), "DS127", "window", recipe="tabular")
    refused(table, unused(x=(FLOAT, ["n", 9, 3])), "DS123", recipe="tabular")
    refused(table, unused(x=(FLOAT, ["n", 1, 1, 3])), "DS122", "rows", recipe="tabular")
    refused(table, unused(x=(FLOAT, ["n", 3])), "DS124", "label = ...", recipe="tabular", labelled=True)
    refused(table, encoder(), "DS122", "3", recipe="tabular")
    refused(table, ROWS, "DS127", "no column 7", recipe=recipe(table.parent, kind="table", label=7))


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"1,2\n3\n", "DS121", "1 fields"),
        (b"1,2\n3,x\n", "DS121", "no numbers"),
        (b"1,2\n3,\n", "DS121", "no numbers"),
        (b"1,2\n3,nan\n", "DS128", "sample 1"),
        (b"1,2\n3,1e300\n", "DS128", "sample 1"),
        (b'1,2\n3,"4\n', "DS121", "no row of a table"),
        (b"1,2\n3," + b"4" * 200_000 + b"\n", "DS121", "no row of a table"),
        (b"1,2\n\xff\xfe,4\n", "DS121", "UTF-8"),
        (b"a,b\n", "DS123", "no samples"),
        (b"", "DS123", "no samples"),
    ],
)
def test_hostile_tables(tmp_path: Path, content: bytes, code: str, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    refused(tmp_path / "t.csv", ROWS, code, words, recipe="tabular")


# Folders of .npz files


def test_a_file_a_sample(tmp_path: Path) -> None:
    source = unused(x=(FLOAT, ["n", "t", 2]), ids=(INT32, ["n", 1]))
    for i, length in enumerate((3, 3, 5)):
        x = np.full((length, 2), i, np.float32)
        np.savez(tmp_path / f"{i}.npz", x=x, ids=np.array([i]), labels=np.array(i), other=np.zeros(9))
    data = open_data(tmp_path, source, labelled=True)
    assert data.samples == 3 and data.sha256()
    assert shapes(data, "x", 8) == [(2, 3, 2), (1, 5, 2)]
    assert [b.labels.tolist() for b in data.batches() if b.labels is not None] == [[0], [1], [2]]
    (tmp_path / "1.npz").write_bytes(b"PK")
    refused(tmp_path, source, "DS121", "1.npz")
    np.savez(tmp_path / "1.npz", y=x)
    refused(tmp_path, source, "DS122", "1.npz", "found: y")
