"""Names in a model are its author's: they must not reach a terminal, a page or a path as anything but text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from attacks.hostile import BOARD, CALIBRATION, MODEL, Ended, save

NAMES = {
    "a path": "/../../etc/passwd",
    "terminal escapes": "\x1b[2J\x1b]0;pwned\x07",
    "rich markup": "[bold red]x[/bold red][/]",
    "a line of its own": "\nerror[DS999]: forged",
    "html": "</td><script>alert(1)</script>",
    "an attribute": "\" onload='alert(1)",
    "right to left": "\u202egpj.exe",
    "a zero byte": "a\0b",
    "300 letters": "n" * 300,
}


def named(suffix: str) -> onnx.ModelProto:
    """The digits model with a suffix on every name in it."""
    proto = onnx.load(MODEL)
    graph = proto.graph
    for node in graph.node:
        node.name += suffix
        for values in (node.input, node.output):
            values[:] = [value and value + suffix for value in values]
    for thing in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        thing.name += suffix
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_param = dim.dim_param and dim.dim_param + suffix
    proto.producer_name = proto.producer_version = graph.name = suffix
    return proto


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_text(cli: Callable[..., Ended], tmp_path: Path, name: str) -> None:
    model, out = save(named(NAMES[name]), tmp_path / "m.onnx"), tmp_path / "out" / "bundle"
    np.save(tmp_path / "c.npy", np.load(CALIBRATION)["image"][:16])
    runs = [
        cli("compile", model, "-t", BOARD, "--calib", tmp_path / "c.npy", "-o", out),
        cli("check", model, "-t", BOARD),
        cli("inspect", model),
        cli("explain", out),
        cli("explain", out, "node_relu" + NAMES[name].replace("\0", "")),
        cli("verify", out),
    ]
    assert [ended.code for ended in runs] == [0, 0, 0, 0, 2 * ("\0" in NAMES[name]), 0]  # a zero byte cannot be typed
    for ended in runs:
        shown = ended.out + ended.err
        assert all(character.isprintable() or character == "\n" for character in shown)
        assert "\nerror[DS999]" not in shown
    page = (out / "report.html").read_text()
    assert "<script" not in page and "onload='" not in page and "\x1b" not in page and "\u202e" not in page
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "c.npy", "m.onnx", "out", "temporary"}
    done = subprocess.run([sys.executable, out / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_name_of_100_000_letters_is_cut_where_it_is_shown(cli: Callable[..., Ended], tmp_path: Path) -> None:
    proto, long, out = onnx.load(MODEL), "n" * 100_000, tmp_path / "out"
    proto.graph.input[0].name = proto.graph.node[0].input[0] = proto.graph.node[0].name = long
    model = save(proto, tmp_path / "m.onnx")
    runs = [
        cli("compile", model, "-t", BOARD, "--calib", CALIBRATION, "-o", out),
        cli("check", model, "-t", BOARD),
        cli("inspect", model),
        cli("explain", out),
        cli("explain", out, long[:-1]),
    ]
    assert [ended.code for ended in runs] == [1, 0, 0, 0, 2]  # such names outweigh what INT8 saves
    assert all(len(ended.out + ended.err) < 40_000 for ended in runs)
    assert len((out / "report.html").read_text()) < 40_000


def test_the_names_of_files_stay_text(cli: Callable[..., Ended], tmp_path: Path) -> None:
    for name in ("\x1b[2J", "[/]", "\nerror[DS999]: forged", "\u202e", "\udcff"):
        for arguments in (("inspect", name), ("targets", name), ("verify", name), ("check", MODEL, "-t", name)):
            ended = cli(*arguments)
            assert ended.code == 2
            assert all(c.isprintable() or c == "\n" for c in ended.err) and "\nerror[DS999]" not in ended.err


def test_a_file_name_is_the_name_of_the_model_and_nothing_more(cli: Callable[..., Ended], tmp_path: Path) -> None:
    model = shutil.copy(MODEL, tmp_path / "<b>[red]\x1b[2J.onnx")
    out = tmp_path / "out"
    assert cli("compile", model, "-t", BOARD, "--calib", CALIBRATION, "-o", out).code == 0
    page = (out / "report.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;[red]\\x1b[2J" in page
