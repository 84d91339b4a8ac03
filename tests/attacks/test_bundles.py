"""Bundles that were changed after they were written."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.hostile import CALIBRATION, DIGITS, MODEL, Ended, refused

Cli = Callable[..., Ended]
Change = Callable[[dict[str, Any]], object]
VERB = {"model": "inspect", "golden": "verify", "plan": "explain"}
"""Role of a file -> a verb that reads it."""


def edit(bundle: Path, change: Change) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def file_of(manifest: dict[str, Any], role: str) -> dict[str, Any]:
    return next(info for info in manifest["files"] if info["role"] == role)


def replace(bundle: Path, role: str, content: bytes) -> None:
    """Replace a file, and its hash too, as somebody would who wants to go unnoticed."""

    def change(manifest: dict[str, Any]) -> None:
        info = file_of(manifest, role)
        (bundle / info["path"]).write_bytes(content)
        info |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    edit(bundle, change)


PATHS = ["../outside", "/etc/passwd", "sub/../../outside", "link", "folder/passwd", ".", "", "a\0b", "n" * 5000]


@pytest.mark.parametrize("role", VERB)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:20]))
def test_paths_that_leave_the_bundle(cli: Cli, bundle: Path, role: str, path: str) -> None:
    shutil.copy(MODEL, bundle.parent / "outside")
    (bundle / "link").symlink_to("/etc/passwd")
    (bundle / "folder").symlink_to("/etc")
    edit(bundle, lambda manifest: file_of(manifest, role).update(path=path))
    for verb in {VERB[role], "verify"}:
        ended = cli(verb, bundle)
        refused(ended, "DS803")
        assert "root:" not in ended.err


def test_an_artifact_that_became_a_link(cli: Cli, bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle.parent / "model.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "model.onnx")
    for verb in ("verify", "inspect"):
        refused(cli(verb, bundle), "DS803", "outside")


@pytest.mark.parametrize("role", ["model", "golden", "runner", "plan", "report"])
def test_every_file_is_compared_with_its_hash(cli: Cli, bundle: Path, role: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    path = bundle / file_of(manifest, role)["path"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(cli("verify", bundle), "DS803", path.name, "sha256")
    path.unlink()
    refused(cli("verify", bundle), "DS803", path.name, "missing")


KEYS = """schema dsedge created status model target runtime files calibration precision metrics fidelity latency gates
passes"""


def test_every_key_is_required(cli: Cli, bundle: Path, compiled: Path) -> None:
    for key in KEYS.split():
        shutil.copy(compiled / "manifest.json", bundle)
        edit(bundle, lambda manifest, key=key: manifest.pop(key))  # type: ignore[misc]
        refused(cli("verify", bundle), "DS803", f"'{key}'")


MANIFESTS: dict[str, Change] = {
    "a status that there is not": lambda m: m.update(status="blessed"),
    "a format from the future": lambda m: m.update(schema=2),
    "more than there is": lambda m: m.update(trusted=True),
    "another type": lambda m: m.update(files={}),
    "no files": lambda m: m.update(files=[]),
    "no golden file": lambda m: m.update(files=[i for i in m["files"] if i["role"] != "golden"]),
    "a wrong hash": lambda m: file_of(m, "model").update(sha256="0" * 64),
    "a wrong size": lambda m: file_of(m, "model").update(bytes=1),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_edited_manifests(cli: Cli, bundle: Path, name: str) -> None:
    edit(bundle, MANIFESTS[name])
    refused(cli("verify", bundle), "DS803")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\0", '{"schema": NaN}'], ids=lambda t: t[:9])
def test_manifests_that_are_none(cli: Cli, bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    for verb in ("verify", "explain", "inspect"):
        refused(cli(verb, bundle), "DS803", "manifest.json")


def test_no_bundle(cli: Cli, bundle: Path) -> None:
    for path in (DIGITS, MODEL, bundle / "none", bundle / "model.onnx"):
        refused(cli("verify", path), "DS804", "hint")
        refused(cli("explain", path), "DS804", "hint")
    (bundle / "manifest.json").write_bytes(b"\xff\xfe")
    refused(cli("verify", bundle), "DS804")
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").mkdir()
    refused(cli("verify", bundle), "DS804")


RUNS: dict[str, Change] = {
    "an unknown runtime": lambda m: m["runtime"].update(name="evil"),
    "another input": lambda m: m["model"]["inputs"][0].update(name="other"),
    "no inputs": lambda m: m["model"].update(inputs=[]),
    "inputs without a name": lambda m: m["model"].update(inputs=[{}]),
}


@pytest.mark.parametrize("name", RUNS)
def test_manifests_that_fit_no_artifact(cli: Cli, bundle: Path, name: str) -> None:
    edit(bundle, RUNS[name])
    ended = cli("verify", bundle)
    code = "DS144" if "runtime" in name else "DS502"
    refused(ended, code, exit_code=2 if code == "DS144" else 3)


@pytest.mark.parametrize("claimed", [1000.0, None])
def test_accuracy_that_was_never_reached(cli: Cli, bundle: Path, claimed: float | None) -> None:
    edit(bundle, lambda manifest: manifest["fidelity"].update(golden_sqnr_db=[claimed]))
    refused(cli("verify", bundle), "DS501", "golden outputs", exit_code=3)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path(self.path).touch, ())


GOLDEN: dict[str, tuple[str, Callable[[dict[str, np.ndarray]], object]]] = {
    "nothing": ("DS502", lambda g: g.clear()),
    "inputs alone": ("DS502", lambda g: [g.pop(key) for key in list(g) if not key.startswith("input")]),
    "no float outputs": ("DS502", lambda g: g.pop("float_0")),
    "no samples": ("DS502", lambda g: g.update({key: array[:0] for key, array in g.items()})),
    "other shapes": ("DS502", lambda g: g.update(input_0=g["input_0"][..., :5])),
    "NaN": ("DS501", lambda g: g.update(float_0=np.full_like(g["float_0"], np.nan))),
    "NaN inputs": ("DS501", lambda g: g.update(input_0=np.full_like(g["input_0"], np.nan))),
    "other outputs": ("DS501", lambda g: g.update(float_0=-g["float_0"])),
}


def archive(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_prove_nothing(cli: Cli, bundle: Path, name: str) -> None:
    code, change = GOLDEN[name]
    with np.load(bundle / "golden.npz") as data:
        arrays = dict(data)
    change(arrays)
    replace(bundle, "golden", archive(arrays))
    refused(cli("verify", bundle), code, exit_code=3)
    done = subprocess.run([sys.executable, bundle / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_pickles_in_a_golden_file(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    evil = np.array([Evil(tmp_path / "pwned")], dtype=object)
    for content in (archive({"input_0": evil}), evil.dumps(), b"", b"junk"):
        replace(bundle, "golden", content)
        refused(cli("verify", bundle), "DS502", exit_code=3)
        done = subprocess.run([sys.executable, bundle / "run.py"], capture_output=True, text=True, check=False)
        assert done.returncode != 0
    assert not (tmp_path / "pwned").exists()


def test_other_files_of_a_bundle(cli: Cli, bundle: Path) -> None:
    replace(bundle, "model", b"junk")
    refused(cli("verify", bundle), "DS502", exit_code=3)
    refused(cli("inspect", bundle), "DS102")
    for plan in (b"", b"{", b"[]", b'{"contract": 1}', b"\xff", b"[" * 100_000):
        replace(bundle, "plan", plan)
        refused(cli("explain", bundle), "DS803", "plan.json")


def test_a_bundle_is_no_model_and_no_data(cli: Cli, bundle: Path, tmp_path: Path) -> None:
    refused(cli("compile", bundle, "-t", "pos", "--calib", CALIBRATION, "-o", tmp_path / "out"), "DS101", "folder")
    refused(cli("compile", MODEL, "-t", "pos", "--calib", bundle, "-o", tmp_path / "out"), "DS122")
    refused(cli("compile", MODEL, "-t", "pos", "--calib", bundle / "golden.npz", "-o", tmp_path / "out"), "DS122")
