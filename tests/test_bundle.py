from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsedge.bundle import Bundle, sha256
from dsedge.errors import BundleError, DsedgeError


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def refused(action: Callable[[], object]) -> DsedgeError:
    with pytest.raises(BundleError) as caught:
        action()
    return caught.value


def test_the_manifest_and_the_folder_agree(bundle_folder: Path) -> None:
    bundle = Bundle(bundle_folder)
    bundle.check_files()
    listed = {info.path: info.role for info in bundle.manifest.files}
    assert {p.name for p in bundle_folder.iterdir()} == {*listed, "manifest.json"}
    assert set(listed.values()) == {"model", "golden", "runner", "plan", "report"}
    assert bundle.file("model").name == "model.onnx"
    assert all(info.bytes == (bundle_folder / info.path).stat().st_size for info in bundle.manifest.files)
    assert bundle.manifest.to_json() == json.loads((bundle_folder / "manifest.json").read_text())
    assert str(bundle_folder) in repr(bundle) and "verified" in repr(bundle)
    assert sha256(bundle_folder / "run.py") == next(i.sha256 for i in bundle.manifest.files if i.role == "runner")


def test_no_bundle(tmp_path: Path) -> None:
    assert refused(lambda: Bundle(tmp_path)).code == "DS804"
    assert refused(lambda: Bundle(tmp_path / "missing")).code == "DS804"
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert refused(lambda: Bundle(tmp_path)).code == "DS804"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert refused(lambda: Bundle(tmp_path)).code == "DS803"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.pop("precision"), "precision"),
        (lambda m: m.update(extra=1), "extra"),
        (lambda m: m.update(status="perfect"), "status"),
        (lambda m: m["model"].update(opset="x"), "model.opset"),
        (lambda m: m["files"][0].update(role="virus"), "files.0.role"),
    ],
)
def test_a_damaged_manifest_names_the_field(bundle_folder: Path, change: Callable[[Any], object], field: str) -> None:
    edit(bundle_folder, change)
    error = refused(lambda: Bundle(bundle_folder))
    assert error.code == "DS803"
    assert repr(field) in str(error)


def test_a_manifest_of_a_later_schema_is_not_misread(bundle_folder: Path) -> None:
    edit(bundle_folder, lambda m: m.update(schema=99))
    error = refused(lambda: Bundle(bundle_folder))
    assert error.code == "DS803"
    assert "99" in str(error)


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "a/../../secret", "link/secret", ""])
def test_a_path_that_leaves_the_bundle(bundle_folder: Path, path: str) -> None:
    (bundle_folder.parent / "secret").write_text("")
    (bundle_folder / "link").symlink_to(bundle_folder.parent)
    edit(bundle_folder, lambda m: m["files"][0].update(path=path))
    bundle = Bundle(bundle_folder)
    role = bundle.manifest.files[0].role
    assert refused(bundle.check_files).code == "DS803"
    if path:
        assert refused(lambda: bundle.file(role)).code == "DS803"


def test_a_missing_file_and_a_missing_role(bundle_folder: Path) -> None:
    (bundle_folder / "model.onnx").unlink()
    bundle = Bundle(bundle_folder)
    assert refused(bundle.check_files).where == "model.onnx"
    edit(bundle_folder, lambda m: m.update(files=[]))
    assert "'golden'" in str(refused(lambda: Bundle(bundle_folder).file("golden")))


# The runner, where only numpy and the runtime are installed.

BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dsedge", "onnx", "onnx_ir", "pydantic", "torch", "rich", "typer"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert "dsedge" not in sys.modules
"""


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, str(folder / "run.py"), *arguments],
        cwd=folder.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_runner_compares_the_golden_outputs(bundle_folder: Path) -> None:
    code, found = run(bundle_folder)
    assert code == 0
    assert found["passed"] is True
    assert found["sqnr_db"] == pytest.approx(Bundle(bundle_folder).manifest.fidelity.golden_sqnr_db, abs=0.5)
    assert {p.name for p in bundle_folder.iterdir()} == {i.path for i in Bundle(bundle_folder).manifest.files} | {
        "manifest.json"
    }


def test_the_runner_fails_when_the_outputs_are_off(bundle_folder: Path) -> None:
    path = bundle_folder / "golden.npz"
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **(arrays | {"float_0": -arrays["float_0"]}))
    code, found = run(bundle_folder)
    assert code == 1
    assert found["passed"] is False


def test_the_runner_measures(bundle_folder: Path) -> None:
    code, found = run(bundle_folder, "--bench", "--runs", "7", "--threads", "1")
    assert code == 0
    assert (found["runs"], found["threads"]) == (7, 1)
    assert 0 < found["median_ms"] <= found["p90_ms"]


def test_the_runner_runs_on_data(bundle_folder: Path, tmp_path: Path) -> None:
    with np.load(bundle_folder / "golden.npz") as data:
        x, expected = data["input_0"][0], data["expected_0"][0]
    np.savez(tmp_path / "in.npz", x=x)
    code, found = run(bundle_folder, "--input", str(tmp_path / "in.npz"), "--output", str(tmp_path / "out.npz"))
    assert code == 0
    (name,) = found
    assert found[name] == {"shape": list(expected.shape), "dtype": "float32"}
    with np.load(tmp_path / "out.npz") as data:
        np.testing.assert_allclose(data[name], expected, atol=1e-2)
