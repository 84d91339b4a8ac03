"""What all tests share: `graphs` and `flow` can be imported, nothing touches the user's cache, and a small bundle."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _no_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures that live longer than a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSEDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from graphs import chain

    import dsedge

    out = tmp_path_factory.mktemp("compiled") / "bundle"
    return dsedge.compile(chain(), target="raspberry-pi-5", calibration="random", output=out).path


@pytest.fixture
def bundle_folder(_compiled: Path, tmp_path: Path) -> Path:
    """A bundle of a small convolutional network, a copy of its own for each test."""
    return Path(shutil.copytree(_compiled, tmp_path / "bundle"))
