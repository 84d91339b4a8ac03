"""What README and CONTRIBUTING tell people to type works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from dsedge.quant.contract import OpRule
from dsedge.target import load_target

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def indented(text: str) -> list[str]:
    """Blocks that are indented by four spaces, without the indent."""
    found = re.findall(r"(?:^|\n\n)((?:    .+\n)+)", text)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as README sees it, whose build/ is its own, and commands that run this checkout's code."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("models", "targets", "calibration"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    for name, arguments in {"dsedge": "-m dsedge", "python": ""}.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        script.chmod(0o755)
    return folder


def run(line: str, place: Path) -> None:
    environment = os.environ | {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DSEDGE_CACHE": str(place / "cache"),
    }
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, cwd=place, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), f"{line}\n{done.stdout}{done.stderr}"
    assert done.stdout


def test_the_console_block(place: Path) -> None:
    [block] = blocks(README, "console")
    lines = block.splitlines()
    assert len(lines) > 10 and all(line.startswith("$ ") for line in lines)
    for line in lines:
        run(line.removeprefix("$ "), place)
    files = set(re.findall(r"^\| `([\w.]+)` \|", README.partition("## The bundle")[2], re.MULTILINE))
    assert files == {path.name for path in (place / "build" / "digits").iterdir()}
    verbs = {line.split()[2] for line in lines if line.startswith("$ dsedge ")}
    assert verbs == {path.stem for path in (ROOT / "dsedge" / "cli").glob("*.py")} - {"__init__", "options", "output"}


def test_the_first_command(place: Path) -> None:
    command = indented(README)[0]
    assert command.startswith("dsedge compile ")
    run(command, place)
    [bundle] = (place / "build").glob("digits_cnn-*")
    assert (bundle / "manifest.json").is_file()


def test_the_python_block(place: Path) -> None:
    [block] = blocks(README, "python")
    (place / "export.py").write_text(block)
    run("python export.py", place)


def test_make_knows_the_targets_that_are_named() -> None:
    named = set(re.findall(r"`make (\w+)`|^ *make (\w+)$", README + CONTRIBUTING, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test"} <= {a or b for a, b in named} <= targets


def test_the_files_that_are_named_exist() -> None:
    scripts = set(re.findall(r"`python ([\w/]+\.py)`", README + CONTRIBUTING + MAKEFILE))
    scripts |= set(re.findall(r"\$\(BIN\)/python ([\w/]+\.py)", MAKEFILE))
    folders = set(re.findall(r"`((?:dsedge|tests|models|targets|calibration|tools)/[\w./]*)`", README + CONTRIBUTING))
    inside = set(re.findall(r"`((?:frontend|data|passes|quant|backends|bench|report)/[\w./]*|\w+\.py)`", CONTRIBUTING))
    missing = {path for path in scripts | folders if not (ROOT / path).exists()}
    missing |= {path for path in inside if not (ROOT / "dsedge" / path).exists()}
    assert missing == set()


def test_the_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for listed in re.findall(r"\.\[([\w,]+)\]'", README) for extra in listed.split(",")}
    assert named and named <= set(extras)


def test_the_board_of_contributing(tmp_path: Path) -> None:
    [text] = blocks(CONTRIBUTING, "toml")
    (tmp_path / "my-board.toml").write_text(text)
    board = load_target(tmp_path / "my-board.toml")
    assert board.extends == "raspberry-pi-5" and board.budgets.latency_ms == 20


def test_the_operator_of_contributing() -> None:
    names = dict(vars(import_module("dsedge.backends.onnxruntime.contract")))
    exec(blocks(CONTRIBUTING, "python")[0], names)
    rules = names["OPERATORS"]
    assert rules and all(isinstance(rule, OpRule) for rule in rules)
    named = set(re.findall(r"^- `(\w+)`:", CONTRIBUTING, re.MULTILINE))
    assert named and named <= set(names)
