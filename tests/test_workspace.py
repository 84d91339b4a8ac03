"""The folder in which a bundle is made: what becomes of it, and of what is there already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsedge.errors import BundleError, DsedgeError
from dsedge.workspace import workspace


def refused(action: Callable[[], object]) -> DsedgeError:
    with pytest.raises(BundleError) as caught:
        action()
    return caught.value


def test_a_workspace_becomes_the_output(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with workspace(out, force=False) as folder:
        assert not out.exists()
        (folder / "file").write_text("new")
    assert (out / "file").read_text() == "new"
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert out.stat().st_mode == out.parent.stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("force", [False, True])
def test_a_workspace_vanishes_when_the_block_fails(tmp_path: Path, error: type[BaseException], force: bool) -> None:
    out = tmp_path / "out"
    if force:
        out.mkdir()
        (out / "manifest.json").write_text('{"dsedge": "0.1.0", "files": []}')
    with pytest.raises(error), workspace(out, force=force) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("")
        raise error
    assert [p.name for p in tmp_path.iterdir() if p.name != "out"] == []
    with pytest.raises(error), workspace(tmp_path / "a" / "b" / "out", force=force):
        raise error
    assert not (tmp_path / "a").exists(), "nor the folders above it"
    assert not force or (out / "manifest.json").read_text() == '{"dsedge": "0.1.0", "files": []}'
    assert force or not out.exists()


def test_an_interrupt_right_behind_the_mkdir_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def interrupted(self: Path, *args: Any, **options: Any) -> None:
        mkdir(self, *args, **options)
        if self.parent == tmp_path:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "out", force=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_block_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    """Data sets and judges of users read files too."""
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"), workspace(tmp_path / "out", force=False):
        raise FileNotFoundError(2, "No such file or directory", "labels.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught, workspace(tmp_path / "out", force=False) as folder:
        raise OSError(28, "No space left on device", str(folder / "model.onnx"))
    assert caught.value.code == "DS802"
    assert "No space left" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with workspace(out, force=False) as folder:  # an empty folder is no loss
        (folder / "manifest.json").write_text('{"dsedge": "0.1.0", "files": []}')
    assert refused(lambda: workspace(out, force=False).__enter__()).code == "DS801"
    with workspace(out, force=True) as folder:
        (folder / "manifest.json").write_text("second")
    assert (out / "manifest.json").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        other.rename(out)
    else:
        out.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    assert refused(lambda: workspace(out, force=True).__enter__()).code == "DS801"
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(lambda: workspace(tmp_path / "file" / "out", force=False).__enter__())
    assert error.code == "DS802"
    error = refused(lambda: workspace(tmp_path / ("n" * 300), force=False).__enter__())
    assert error.code == "DS802"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
