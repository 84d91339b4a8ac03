"""The command line in this process, and folders that must be as empty afterwards as they were before."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks.hostile import BOARD, CALIBRATION, MODEL, Ended, nothing_left

import dsedge
from dsedge.cli import main

Cli = Callable[..., Ended]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, which no test may leave any in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    # ONNX Runtime itself leaves the file `.ses`.
    assert [path.name for path in folder.iterdir() if path.name != ".ses"] == []


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs `dsedge` in this process, what native code prints included."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dsedge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def attempt(cli: Cli, tmp_path: Path) -> Cli:
    """Compiles in this process, and asserts that nothing is left of a compilation that failed."""

    def run(
        *more: str | Path, model: Path = MODEL, calib: str | Path | None = CALIBRATION, target: str | Path = BOARD
    ) -> Ended:
        data = [] if calib is None else ["--calib", calib]
        ended = cli("compile", model, "-t", target, *data, "-o", tmp_path / "out" / "bundle", *more)
        if ended.code not in (0, 1):
            nothing_left(tmp_path / "out")
        return ended

    return run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    folder = tmp_path_factory.mktemp("compiled") / "bundle"
    dsedge.compile(MODEL, target=BOARD, calibration=CALIBRATION, output=folder)
    return folder


@pytest.fixture
def bundle(compiled: Path, tmp_path: Path) -> Path:
    """A bundle to be tampered with."""
    return Path(shutil.copytree(compiled, tmp_path / "tampered"))
