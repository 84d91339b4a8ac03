"""The output folder: what is replaced, what never, and that a full disk or a failure leaves nothing behind."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacks.hostile import BOARD, CALIBRATION, MODEL, Ended, command, environment, nothing_left, refused

import dsedge
from dsedge.workspace import workspace

Cli = Callable[..., Ended]


@pytest.fixture
def to(cli: Cli) -> Cli:
    """Compiles the digits model to a path."""

    def run(output: Path | str, *more: str) -> Ended:
        return cli("compile", MODEL, "-t", BOARD, "--calib", CALIBRATION, "-o", output, *more)

    return run


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_a_bundle_is_replaced_with_force_only(to: Cli, bundle: Path) -> None:
    before = listing(bundle.parent)
    refused(to(bundle), "DS801", "--force")
    assert listing(bundle.parent) == before
    (bundle / "model.onnx").write_bytes(b"old")
    assert to(bundle, "--force").code == 0
    dsedge.Bundle(bundle).check_files()
    assert {path.name for path in bundle.parent.iterdir()} == {"tampered", "temporary", "cache"}


def foreign_project(folder: Path, files: str = "[]") -> None:
    (folder / "manifest.json").write_text(f'{{"name": "my-web-app", "version": "1.0", "files": {files}}}')
    (folder / "precious.txt").write_text("precious")


def bundle_with_notes(folder: Path, bundle: Path) -> None:
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    (folder / "precious.txt").write_text("precious")


def bundle_in_a_folder(folder: Path, bundle: Path) -> None:
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    (folder / "precious").mkdir()


OTHERS: dict[str, Callable[[Path, Path], object]] = {
    "a file": lambda out, bundle: (out.rmdir(), out.write_text("precious")),
    "a folder with a file": lambda out, bundle: (out / "precious.txt").write_text("precious"),
    "a folder with a manifest.json of something else": lambda out, bundle: foreign_project(out),
    "one that lists its files": lambda out, bundle: foreign_project(out, '[{"path": "precious.txt"}]'),
    "a bundle with a file beside it": bundle_with_notes,
    "a bundle with a folder beside it": bundle_in_a_folder,
    "a link to nowhere": lambda out, bundle: (out.rmdir(), out.symlink_to("nowhere")),
    "a link to a folder": lambda out, bundle: (out.rmdir(), out.symlink_to(out.parent)),
    "a pipe": lambda out, bundle: (out.rmdir(), os.mkfifo(out)),
}


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_ever_replaced(to: Cli, compiled: Path, tmp_path: Path, name: str, force: tuple[str]) -> None:
    out = tmp_path / "place" / "out"
    out.mkdir(parents=True)
    OTHERS[name](out, compiled)
    before = listing(out.parent)
    refused(to(out, *force), "DS801", str(out))
    assert listing(out.parent) == before


def test_an_empty_folder_is_taken(to: Cli, tmp_path: Path) -> None:
    (tmp_path / "one" / "out").mkdir(parents=True)
    assert to(tmp_path / "one" / "out").code == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["out"]
    dsedge.Bundle(tmp_path / "one" / "out").check_files()


def test_the_current_folder_cannot_be_replaced(to: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", ""):
        refused(to(name, "--force"), "DS801", "give another -o")
    assert list((tmp_path / "here").iterdir()) == []


def test_places_that_cannot_be_written(to: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    refused(to(tmp_path / "file" / "out"), "DS802", "file/out")
    refused(to("/proc/nowhere/out"), "DS802", "/proc/nowhere/out")
    refused(to("/dev/null/out"), "DS802", "/dev/null/out")
    refused(to(tmp_path / ("n" * 300)), "DS802", "too long")
    refused(to("/"), "DS801")
    assert (tmp_path / "file").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "temporary", "cache"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_replacement_that_fails_keeps_the_old_bundle(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException
) -> None:
    before, renames, rename = listing(bundle), [], Path.rename

    def failing(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) == step:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((dsedge.DsedgeError, KeyboardInterrupt)), workspace(bundle, force=True) as folder:
        (folder / "new").touch()
    assert listing(bundle) == before
    assert {path.name for path in bundle.parent.iterdir()} <= {"tampered", "temporary", "cache"}


def limit_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails then, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [0, 4096, 100_000])
def test_a_full_disk_for_everything(tmp_path: Path, size: int) -> None:
    """Temporary files need the most room, and fail first."""
    out = tmp_path / "out"
    arguments = command("compile", MODEL, "-t", BOARD, "--calib", CALIBRATION, "-o", out / "bundle")
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=environment(), preexec_fn=limit_files(size)
    )
    refused(Ended(done.returncode, done.stdout, done.stderr), "DS802", "hint: free some space")
    nothing_left(out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "plan.json", "report.html", "manifest.json"])
def test_a_disk_that_fills_up_at_one_file(to: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`/dev/full` takes the place of a file of the bundle when that is opened to be written."""
    opened = io.open

    def full(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        place = Path(file) if isinstance(file, str | os.PathLike) else Path()
        in_bundle = place.name == name and place.is_relative_to(tmp_path / "out")
        return opened("/dev/full" if in_bundle and mode.startswith("w") else file, mode, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("io.open", full)
        patched.setattr("builtins.open", full)
        ended = to(tmp_path / "out" / "bundle")
    refused(ended, "DS802", "No space left on device")
    nothing_left(tmp_path / "out")
