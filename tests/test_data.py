from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.data import DataLoader, TensorDataset

from dsedge.data import Data, Feeds, open_data
from dsedge.errors import LoadError
from dsedge.model import Model

DTYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "u": TensorProto.UINT8, "b": TensorProto.BOOL}


def a_model(
    nodes: list[Any] | None = None,
    weights: dict[str, list[int]] | None = None,
    **inputs: tuple[str, list[int | str | None] | None],
) -> Model:
    """A model with these inputs; without nodes they go through Identity, which says nothing about layout."""
    constants = [helper.make_tensor(n, DTYPES["f"], dims, np.zeros(dims)) for n, dims in (weights or {}).items()]
    values = [helper.make_tensor_value_info(n, DTYPES[kind], shape) for n, (kind, shape) in inputs.items()]
    nodes = nodes or [helper.make_node("Identity", [n], [f"{n}_out"]) for n in inputs]
    outputs = [helper.make_tensor_value_info(node.output[0], DTYPES["f"], None) for node in nodes]
    graph = helper.make_graph(nodes, "g", values, outputs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    return Model(ir.from_proto(proto), "m", "0" * 64, "test", 20)


def lstm(shape: list[int | str | None]) -> Model:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)
    return a_model([node], {"w": [1, 8, 2], "r": [1, 8, 2]}, x=("f", shape))


def rows(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def refused(source: Any, model: Model, code: str, *words: str, **options: Any) -> None:
    with pytest.raises(LoadError) as caught:
        for _ in open_data(source, model, **options).batches():
            pass
    assert caught.value.code == code, str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def sizes(data: Data, max_batch: int = 1) -> list[tuple[int, int]]:
    return [(batch.count, batch.padding) for batch in data.batches(max_batch)]


def joined(data: Data, max_batch: int = 1, name: str = "x") -> np.ndarray:
    return np.concatenate([batch.feeds[name][: batch.count] for batch in data.batches(max_batch)])


TABLE = a_model(x=("f", ["n", 4]))
FIXED = a_model(x=("f", [8, 4]))
PAIR = a_model(x=("f", ["n", 4]), ids=("i", ["n", 2]))


# Files


def test_npz_gives_all_samples_once(tmp_path: Path) -> None:
    x, labels = rows(10, 4), np.arange(10)
    np.savez(tmp_path / "d.npz", x=x, labels=labels)
    data = open_data(tmp_path / "d.npz", TABLE, labelled=True)
    assert data.samples == 10
    for max_batch, expected in ((1, [(1, 0)] * 10), (4, [(4, 0), (4, 0), (2, 0)])):
        assert sizes(data, max_batch) == expected
        np.testing.assert_array_equal(joined(data, max_batch), x)
    assert [int(label) for b in data.batches(3) if b.labels is not None for label in b.labels] == list(range(10))
    assert all(batch.labels is None for batch in open_data(tmp_path / "d.npz", TABLE).batches())
    assert data.sha256() == hashlib.sha256((tmp_path / "d.npz").read_bytes()).hexdigest()


def test_one_array_of_any_name_and_npy(tmp_path: Path) -> None:
    x = rows(5, 4)
    np.savez_compressed(tmp_path / "d.npz", features=x, labels=np.zeros(5))
    np.save(tmp_path / "d.npy", x)
    notes = {"d.npz": ("d.npz: its array 'features' is taken for the input 'x'",), "d.npy": ()}
    for name, said in notes.items():
        data = open_data(str(tmp_path / name), TABLE)
        assert data.notes == said
        np.testing.assert_array_equal(joined(data), x)
        assert data.samples == 5
    refused(tmp_path / "d.npy", TABLE, "DS124", "no labels", labelled=True)
    refused(tmp_path / "d.npy", PAIR, "DS122", "x, ids")


def test_names_are_compared(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=rows(3, 4), idx=np.zeros((3, 2), int))
    refused(tmp_path / "d.npz", PAIR, "DS122", "inputs are x, ids", "found: x, idx")
    np.savez(tmp_path / "e.npz", x=rows(3, 4), ids=np.zeros((4, 2), int))
    refused(tmp_path / "e.npz", PAIR, "DS122", "x 3, ids 4")


def test_labels_must_fit(tmp_path: Path) -> None:
    for labels, words in ((np.zeros(2, int), "2 labels for 3 samples"), (np.array(1), "1 labels for 3 samples")):
        np.savez(tmp_path / "d.npz", x=rows(3, 4), labels=labels)
        refused(tmp_path / "d.npz", TABLE, "DS124", words, labelled=True)
    np.savez(tmp_path / "d.npz", x=rows(3, 4))
    refused(tmp_path / "d.npz", TABLE, "DS124", "no labels", labelled=True)
    refused({"x": rows(2, 4), "labels": np.array([0.0, np.nan])}, TABLE, "DS128", "sample 1, label", labelled=True)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nonexistent/pwned").touch, ())


def test_hostile_files(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez(good, x=rows(50, 4))
    (tmp_path / "short.npz").write_bytes(good.read_bytes()[:300])
    (tmp_path / "text.npz").write_text("no zip")
    np.save(tmp_path / "good.npy", rows(50, 4))
    (tmp_path / "short.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-8])
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "object.npz", x=np.array([Evil()], dtype=object))
    np.save(tmp_path / "object.npy", np.array([Evil()], dtype=object))
    for name in ("short.npz", "text.npz", "short.npy", "empty.npy", "object.npz", "object.npy"):
        refused(tmp_path / name, TABLE, "DS121", name, "because")
    refused(tmp_path / "missing.npz", TABLE, "DS121", "no such file")
    for name in ("d.pkl", "d.pt", "d.PTH"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        refused(tmp_path / name, TABLE, "DS103", "pickles are refused")
    (tmp_path / "d.parquet").write_text("1,2")
    refused(tmp_path / "d.parquet", TABLE, "DS103", ".parquet", "hint")
    refused(7, TABLE, "DS103", "not iterable")


@pytest.mark.parametrize("shape", ["(8589934593,)", "(4, -4)", "(1 << 40,)", "(9,)", "[[[["])
def test_headers_are_not_believed(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 32
    (tmp_path / "d.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content)
    for name in ("d.npy", "d.npz"):
        refused(tmp_path / name, TABLE, "DS121")


# Shapes


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    x = rows(11, 4)
    data = open_data({"x": x, "labels": np.arange(11)}, FIXED, labelled=True)
    first, last = data.batches(max_batch=2)
    assert (first.count, first.padding, last.count, last.padding) == (8, 0, 3, 5)
    assert last.feeds["x"].shape == (8, 4)
    np.testing.assert_array_equal(last.feeds["x"], x[[8, 9, 10, 10, 10, 10, 10, 10]])
    assert last.labels is not None and last.labels.tolist() == [8, 9, 10]


def test_whole_inputs_count_their_samples() -> None:
    items = [rows(3, 4), rows(5, 4)]
    assert sizes(open_data(items, TABLE), max_batch=32) == [(3, 0), (5, 0)]
    # A fixed batch of another size is taken for samples, the same size is not.
    assert sizes(open_data([rows(8, 4), rows(8, 4)], FIXED)) == [(1, 0), (1, 0)], (
        "nothing says that axis 0 counts samples"
    )
    assert sizes(open_data([(rows(8, 4), np.zeros(8))], FIXED, labelled=True)) == [(8, 0)], "labels say so"
    assert sizes(open_data([rows(5, 4), rows(20, 4)], FIXED)) == [(8, 0), (8, 0), (8, 0), (1, 7)]
    conv = a_model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": [1, 3, 1, 1]}, x=("f", [2, 3, 4, 4]))
    assert sizes(open_data([rows(2, 3, 4, 4)], conv)) == [(2, 0)], "the layout says so"


def test_a_model_without_batches_takes_whole_inputs() -> None:
    image = a_model(x=("f", [4, 4]))
    data = open_data({"x": rows(3, 4, 4)}, image)
    assert sizes(data) == [(1, 0)] * 3 and data.samples == 3
    series = a_model(x=("f", ["time", 2]))
    one_label = open_data([(rows(7, 2), 1), (rows(9, 2), 0)], series, labelled=True)
    assert sizes(one_label) == [(1, 0), (1, 0)], "a single label: the first axis is time"
    scalar = a_model(x=("f", []))
    assert [b.feeds["x"].shape for b in open_data({"x": rows(3)}, scalar).batches(8)] == [()] * 3


def test_the_layout_says_where_the_batch_axis_is() -> None:
    x = rows(6, 5, 2)
    (batch,) = open_data({"x": x}, lstm(["t", "n", 2])).batches(8)
    assert batch.feeds["x"].shape == (5, 6, 2), "LSTM inputs are [time, batch, features]"
    np.testing.assert_array_equal(batch.feeds["x"], x.transpose(1, 0, 2))
    assert [b.count for b in open_data([rows(5, 6, 2)], lstm(["t", "n", 2])).batches()] == [6]


def test_samples_of_different_lengths_are_not_put_together() -> None:
    model = a_model(x=("f", ["n", "t", 2]))
    items = [rows(3, 2), rows(3, 2), rows(5, 2)]
    assert [b.feeds["x"].shape for b in open_data(items, model).batches(8)] == [(2, 3, 2), (1, 5, 2)]


def test_mixed_kinds_make_batches_of_one() -> None:
    items = [{"x": rows(4), "ids": np.zeros((1, 2), int)} for _ in range(3)]
    data = open_data(items, PAIR)
    assert [(b.count, b.feeds["x"].shape, b.feeds["ids"].shape) for b in data.batches(8)] == [(1, (1, 4), (1, 2))] * 3
    refused([{"x": rows(2, 4), "ids": np.zeros((3, 2), int)}], PAIR, "DS122", "disagree on 'n': 2 and 3")
    state = a_model(x=("f", [1, 4]), state=("f", [2, 1, 3]))
    refused([(rows(4), rows(1, 3))], state, "DS122", "different batch sizes")
    assert sizes(open_data([(rows(1, 4), rows(2, 1, 3))], state)) == [(1, 0)]


def test_shapes_that_do_not_fit() -> None:
    refused({"x": rows(3, 5)}, TABLE, "DS122", "sample 0, input 'x'", "[5]", "[n, 4], or [4] for one sample")
    refused([rows(2, 4), rows(4), rows(2, 2, 4)], TABLE, "DS122", "sample 2")
    refused([rows(8, 5)], FIXED, "DS122", "[8, 5]")
    refused({"x": np.float32(1)}, TABLE, "DS122", "0-d")
    refused([np.float32(1)], TABLE, "DS122", "[]")
    refused([np.zeros((0, 4), np.float32)], TABLE, "DS122", "holds nothing")
    refused({"x": np.zeros((3, 0), np.float32)}, TABLE, "DS122", "holds nothing")
    refused([(rows(4),)], PAIR, "DS122", "1 arrays for 2 inputs")
    refused([rows(4)], PAIR, "DS122", "tuples")
    refused([{"y": rows(4), "z": rows(4)}], TABLE, "DS122", "found: y, z")


@pytest.mark.parametrize("source", [[], {"x": np.zeros((0, 4), np.float32)}, iter([]), np.zeros((0, 4))])
def test_empty(source: Any) -> None:
    refused(source, TABLE, "DS123", "no samples")


# Dtypes and values


def test_floats_and_integers_are_converted_when_nothing_is_lost() -> None:
    for dtype in (np.float64, np.float16, ">f4"):
        (batch,) = open_data({"x": np.full((2, 4), 0.5, dtype)}, TABLE).batches(8)
        assert batch.feeds["x"].dtype == np.float32 and batch.feeds["x"].flags.c_contiguous
        assert (batch.feeds["x"] == 0.5).all()
    (batch,) = open_data({"x": rows(2, 4), "ids": np.full((2, 2), 7, np.uint8)}, PAIR).batches(8)
    assert batch.feeds["ids"].dtype == np.int64
    flags = a_model(x=("b", ["n", 2]))
    (batch,) = open_data({"x": np.array([[0, 1]])}, flags).batches()
    assert batch.feeds["x"].dtype == np.bool_


def test_dtypes_that_could_hide_a_mistake_are_refused() -> None:
    refused({"x": np.zeros((2, 4), np.uint8)}, TABLE, "DS122", "takes float32, this is uint8", "scale")
    refused({"x": np.zeros((2, 4), bool)}, TABLE, "DS122", "this is bool")
    refused({"x": rows(2, 4), "ids": rows(2, 2)}, PAIR, "DS122", "takes int64, this is float32")
    refused({"x": np.full((1, 2), 300)}, a_model(x=("u", ["n", 2])), "DS122", "from 300 to 300")
    refused({"x": np.full((1, 2), 2)}, a_model(x=("b", ["n", 2])), "DS122", "do not fit")
    refused([["a", "b", "c", "d"]], TABLE, "DS122")
    refused([object()], TABLE, "DS122", "object")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_nan_and_inf_name_the_sample(bad: float) -> None:
    x = rows(5, 4).astype(np.float64)
    x[3, 2] = bad
    refused({"x": x}, TABLE, "DS128", "sample 3, input 'x'")


# Iterables


def test_one_shot_iterables_are_read_once_and_completely() -> None:
    x = rows(6, 4)
    data = open_data((row for row in x), TABLE)
    assert data.samples is None and data.sha256() is None
    assert [batch.feeds["x"].tolist() for batch in data.head(2)] == x[:2, None].tolist()
    np.testing.assert_array_equal(joined(data, 4), x)
    assert data.sha256() is not None
    assert [batch.feeds["x"].tolist() for batch in data.head(2)] == x[:2, None].tolist(), "they are kept"
    for read_again in (data.batches, lambda: data.head(3)):
        with pytest.raises(LoadError, match=r"DS121.*only once"):
            read_again()


def test_head_of_a_short_iterable() -> None:
    x = rows(3, 4)
    data = open_data(iter(x), TABLE)
    assert len(data.head(8)) == 3
    np.testing.assert_array_equal(joined(data), x)
    assert len(data.head(8)) == 3


def test_head_counts_samples() -> None:
    assert [b.count for b in open_data([rows(3, 4)] * 4, TABLE).head(5)] == [3, 3]
    head = open_data({"x": rows(9, 4)}, TABLE).head(4)
    assert [b.count for b in head] == [1, 1, 1, 1]


def test_iterables_stream() -> None:
    alive = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal alive
        for row in rows(100, 4):
            alive += 1
            yield row

    batches = open_data(source(), TABLE).batches(4)
    next(batches)
    assert alive <= 5


def test_sha256_is_that_of_the_samples() -> None:
    x = rows(6, 4)

    def digest(source: Any, max_batch: int = 1, **options: Any) -> str | None:
        data = open_data(source, TABLE, **options)
        for _ in data.batches(max_batch):
            pass
        return data.sha256()

    assert digest(list(x)) == digest(iter(x), 4) == digest([row.astype(np.float64) for row in x])
    assert digest(list(x)) != digest(list(x[::-1]))
    assert digest("random") == digest("random")


def test_torch_loaders() -> None:
    x, y = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    loader = DataLoader(TensorDataset(x.requires_grad_(), y), batch_size=4)
    data = open_data(loader, TABLE, labelled=True)
    for _ in range(2):
        assert sizes(data) == [(4, 0), (4, 0), (2, 0)]
    assert [b.labels.tolist() for b in data.batches() if b.labels is not None] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    one = open_data(loader, a_model(x=("f", [1, 4])), labelled=True)
    np.testing.assert_array_equal(joined(one), x.detach().numpy())
    np.testing.assert_array_equal(joined(open_data(x, TABLE)), x.detach().numpy())
    refused(DataLoader(TensorDataset(x), batch_size=4), TABLE, "DS124", "no label", labelled=True)
    refused([x.detach().to(torch.bfloat16)], TABLE, "DS122", "no array")
    refused([(rows(3, 4), np.zeros(2, int))], TABLE, "DS124", "2 labels for 3 samples", labelled=True)


def test_dicts_hold_labels() -> None:
    elements: list[Feeds] = [{"x": rows(4), "labels": np.array(3)}]
    (batch,) = open_data(elements, TABLE, labelled=True).batches()
    assert batch.labels is not None and batch.labels.tolist() == [3]
    refused([{"x": rows(4)}], TABLE, "DS124", "no label", labelled=True)
