"""The wheel, alone with what it declares: it compiles a model, and the bundle runs without any of it.

Nothing is downloaded: the environments are folders with links to the packages that are installed here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "digits_cnn"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and its core dependencies, as `pip install --target` leaves it."""
    folder = tmp_path_factory.mktemp("core")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    [info] = folder.glob("dsedge-*.dist-info")
    link(folder, closure(Distribution.at(info).requires or []))
    return folder


def closure(requires: Iterable[str]) -> Iterator[Distribution]:
    """The installed distributions that these requirements need, without extras."""
    from packaging.requirements import Requirement

    ahead, seen = [Requirement(text) for text in requires], set()
    while ahead:
        wanted = ahead.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = distribution(name)
        assert wanted.specifier.contains(found.version, prereleases=True), (str(wanted), found.version)
        ahead += [Requirement(text) for text in found.requires or []]
        yield found


def link(folder: Path, distributions: Iterable[Distribution]) -> None:
    """Link the packages of distributions into a folder, so that it is all that an interpreter needs on its path."""
    for found in distributions:
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            place = Path(str(found.locate_file(top)))
            if place.exists() and not (folder / top).exists():
                (folder / top).symlink_to(place)


def python(folder: Path, code: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has the standard library and one folder, and no variable of this environment."""
    code = f"import sys; sys.path.append({str(folder)!r}); sys.argv[1:] = {list(map(str, arguments))!r}\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(cwd), "TMPDIR": str(cwd)},
    )


CLI = "from dsedge.cli import main; main()"


def importable(folder: Path, names: Iterable[str], cwd: Path) -> set[str]:
    code = "from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n)))"
    done = python(folder, code, *names, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("targets", "calibration"):
        files = {f"dsedge/_data/{folder}/{path.name}" for path in (ROOT / folder).glob("*.toml")}
        assert files and files == {name for name in names if name.startswith(f"dsedge/_data/{folder}/")}
    sources = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "dsedge").rglob("*")
        if p.suffix in (".py", ".css", ".typed", ".toml", ".sh")
    }
    assert sources <= names
    info = {name for name in names if ".dist-info/" in name}
    assert names == sources | info | {name for name in names if name.startswith("dsedge/_data/")}
    assert any(name.endswith("licenses/LICENSE") for name in info)


def test_the_core_is_small(core: Path, tmp_path: Path) -> None:
    names = ["dsedge", "numpy", "onnx", "onnxruntime", "torch", "onnxscript", "sklearn", "PIL", "pytest", "hatchling"]
    assert importable(core, names, tmp_path) == {"dsedge", "numpy", "onnx", "onnxruntime"}


def test_it_compiles_and_the_bundle_runs_alone(core: Path, tmp_path: Path) -> None:
    data = ["--calib", DIGITS / "calibration.npz", "--eval", DIGITS / "evaluation.npz", "--max-drop", "0.5"]
    model = DIGITS / "digits_cnn.onnx"
    done = python(core, CLI, "compile", model, "-t", "raspberry-pi", *data, "-o", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "top1" in done.stdout and "raspberry-pi -> raspberry-pi-5" in done.stdout
    for arguments in (["verify", "out"], ["explain", "out"], ["inspect", "out"], ["targets"], ["passes"], ["doctor"]):
        done = python(core, CLI, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    device, bundle = tmp_path / "device", shutil.move(tmp_path / "out", tmp_path / "bundle")
    device.mkdir()
    link(device, closure(["numpy", "onnxruntime"]))
    assert importable(device, ["dsedge", "onnx", "onnx_ir", "torch", "numpy", "onnxruntime"], tmp_path) == {
        "numpy",
        "onnxruntime",
    }
    script = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    for more in ([], ["--bench", "--runs", "3"]):
        done = python(device, script, f"{bundle}/run.py", *more, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout, done.stderr


def test_what_extras_bring_is_asked_for_by_name(core: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"")
    code = """
import dsedge
class Module:
    pass
Module.__module__ = "torch.nn.modules.module"
try:
    dsedge.compile(Module(), target="pos", calibration="random", example_inputs=(), output="out")
except dsedge.DsedgeError as error:
    print(error)
"""
    done = python(core, code, cwd=tmp_path)
    assert done.returncode == 0 and "DS402" in done.stdout and "dsedge[torch]" in done.stdout, done.stderr
    data = ["--calib", images, "--recipe", "imagenet"]
    done = python(core, CLI, "compile", DIGITS / "digits_cnn.onnx", "-t", "pos", *data, cwd=tmp_path)
    assert done.returncode == 3 and "error[DS402]" in done.stderr and "dsedge[images]" in done.stderr, done.stderr


def test_the_extra_for_developers_brings_the_build_backend() -> None:
    """These tests build without isolation, and must not depend on what happens to be installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["build-system"]["requires"]) <= set(project["project"]["optional-dependencies"]["dev"])
