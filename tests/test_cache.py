from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dsedge import cache

ARRAYS = {"names": np.array(["a", "ü:0"]), "0": np.arange(1000.0), "0_counts": np.ones(8, np.int64)}


def stored() -> Path:
    name = cache.key("step", data="x")
    cache.store(name, ARRAYS)
    return cache.folder() / f"{name}.npz"


def test_what_is_stored_is_found_again() -> None:
    path = stored()
    back = cache.load(path.stem)
    assert back is not None
    assert list(back) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    assert [p.name for p in cache.folder().iterdir()] == [path.name]


def test_the_key_depends_on_everything() -> None:
    keys = [
        cache.key("calibrate", values=["a", "b"], data="x"),
        cache.key("calibrate", values=["a"], data="x"),
        cache.key("calibrate", values=["a", "b"], data="y"),
        cache.key("calibrate", values=["a", "b"], data=None),
        cache.key("other", values=["a", "b"], data="x"),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key("calibrate", data="x", values=["a", "b"]) == keys[0]


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.folder() == tmp_path / "cache"
    monkeypatch.delenv("DSEDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "dsedge"


def test_nothing_stored() -> None:
    assert cache.load("nothing") is None


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "flipped", "pickle"])
def test_a_damaged_entry_is_no_entry(damage: str) -> None:
    path = stored()
    content = path.read_bytes()
    if damage == "flipped":
        for position in range(40, len(content), 97):  # headers, data and directory of the archive
            flipped = bytearray(content)
            flipped[position] ^= 0xFF
            path.write_bytes(flipped)
            got = cache.load(path.stem)
            assert got is None or all(np.array_equal(got.get(k, ()), v) for k, v in ARRAYS.items() if k in got)
        return
    if damage == "pickle":
        np.savez(path, a=np.array([{}], object))
    else:
        path.write_bytes({"empty": b"", "garbage": os.urandom(100), "cut": content[: len(content) // 2]}[damage])
    assert cache.load(path.stem) is None


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DSEDGE_CACHE", str(tmp_path / "file" / "below"))
    cache.store("name", ARRAYS)
    assert cache.load("name") is None


def test_the_entries_used_least_recently_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for index in range(4):
        cache.store(f"entry{index}", {"x": np.random.default_rng(index).random(1000)})
        paths.append(cache.folder() / f"entry{index}.npz")
        os.utime(paths[-1], (1000 + index, 1000 + index))
    monkeypatch.setattr(cache, "LIMIT_BYTES", int(2.5 * paths[0].stat().st_size))
    assert cache.load("entry0") is not None  # used just now
    cache.store("entry4", {"x": np.zeros(1)})
    assert [p.exists() for p in paths] == [True, False, False, True]
