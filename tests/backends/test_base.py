from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from dsedge.backends import base
from dsedge.errors import LoadError


def test_the_backends_of_the_package_are_found_without_importing_them() -> None:
    found = base.available()
    folder = Path(base.__file__).parent
    shipped = {p.stem for p in folder.iterdir() if not p.name.startswith("_") and p.stem != "base"}
    assert set(found) >= shipped
    assert found["onnxruntime"] == "dsedge.backends.onnxruntime"
    assert "base" not in found


def test_an_unknown_backend_lists_those_that_are_there() -> None:
    with pytest.raises(LoadError) as caught:
        base.load_backend("onnxruntim")
    assert caught.value.code == "DS144"
    assert "did you mean 'onnxruntime'?" in str(caught.value)


def test_a_package_brings_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_backend.py").write_text('NAME = "acme"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("acme", "acme_backend", base.ENTRY_POINTS)
    monkeypatch.setattr(base, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    assert base.available()["acme"] == "acme_backend"
    assert "acme_backend" not in sys.modules
    assert base.load_backend("acme").NAME == "acme"


def test_a_package_does_not_replace_a_shipped_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("onnxruntime", "json", base.ENTRY_POINTS)
    monkeypatch.setattr(base, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    assert base.available()["onnxruntime"] == "dsedge.backends.onnxruntime"


def test_a_backend_that_does_not_load_is_an_error_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("acme", "acme_backend_that_is_not_there", base.ENTRY_POINTS)
    monkeypatch.setattr(base, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    with pytest.raises(LoadError) as caught:
        base.load_backend("acme")
    assert caught.value.code == "DS144"
    assert "acme_backend_that_is_not_there" in str(caught.value)
