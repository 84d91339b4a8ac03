"""What README and CONTRIBUTING tell people to type works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import wave
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import TensorProto, helper, numpy_helper

from dsedge.quant import contract as quant_contract
from dsedge.quant.contract import OpRule
from dsedge.target import load_target

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
LOST = re.compile(
    r"error\[DS601\]: \S+: a gate failed: latency_vs_float is [\d.]+, limit [\d.]+\n  hint: .*float artifact\n"
)


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
    told = f"{line}\n{done.stdout}{done.stderr}"
    if done.returncode == 1:  # a small model on a busy machine may lose its race against float: that is an answer too
        assert LOST.fullmatch(done.stderr), told
    else:
        assert (done.returncode, done.stderr) == (0, ""), told
    assert done.stdout


def test_the_console_blocks(place: Path) -> None:
    lines = "".join(blocks(README, "console")).splitlines()
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


FACTORY = """\
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        stem = nn.Conv2d(3, 32, 7, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()
        self.body = nn.Sequential(*stem, nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3)))


net = Small
"""


def weights(place: Path, rng: np.random.Generator) -> None:
    """weights.safetensors, the package that makes their module, and its data."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    (place / "mypackage").mkdir()
    (place / "mypackage" / "models.py").write_text(FACTORY)
    names: dict[str, type] = {}
    exec(FACTORY, names)
    torch.manual_seed(0)
    safetensors.save_file(names["net"]().state_dict(), place / "weights.safetensors")
    np.savez(place / "images.npz", image=rng.standard_normal((8, 3, 224, 224), np.float32))


def detector(place: Path, rng: np.random.Generator) -> None:
    """detector.onnx, whose scores are brightness in cells of 8 pixels: it finds the square in the middle."""
    image = pytest.importorskip("PIL.Image")
    for folder in ("images", "val/images", "val/labels"):
        (place / folder).mkdir(parents=True)
    for number in range(8):
        pixels = rng.integers(0, 60, (64, 64, 3), np.uint8)
        pixels[24:40, 24:40] = 250
        for folder in ("images", "val/images"):
            image.fromarray(pixels).save(place / folder / f"{number}.png")
        (place / "val" / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    net, x = Net(image=(1, 3, 64, 64)), "image"
    for channels in (32, 32, 2):
        x = net.conv(x, channels, act="Relu", strides=[2, 2])
    scores = net.op("Reshape", net.op("Sigmoid", net.op("Mul", x, net.const(0.01))), net.ints(1, 2, 64))
    centres = np.stack(np.meshgrid(range(0, 64, 8), range(0, 64, 8)), axis=-1).reshape(1, 64, 2)
    boxes = net.const(np.concatenate([centres, np.full((1, 64, 2), 16)], axis=2).astype(np.float32))
    found = net.op("Concat", boxes, net.op("Transpose", scores, perm=[0, 2, 1]), axis=2)
    for tensor in net.weights:
        tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(net.proto(found), place / "detector.onnx")


def encoder(place: Path, rng: np.random.Generator) -> None:
    """encoder.onnx: token ids, an embedding large enough for INT4, and linear layers large enough for INT8."""
    net = Net()
    net.inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 64])]
    x = net.op("Gather", net.weight(2000, 256, fan_in=1), "ids")
    for _ in range(2):
        inner = net.op("Relu", net.op("MatMul", x, net.weight(256, 1024, fan_in=256)))
        x = net.op("Add", x, net.op("MatMul", inner, net.weight(1024, 256, fan_in=1024)))
    onnx.save(net.proto(x), place / "encoder.onnx")
    lines = [json.dumps(rng.integers(0, 2000, 64).tolist()) for _ in range(16)]
    (place / "ids.jsonl").write_text("\n".join(lines))


def keywords(place: Path, rng: np.random.Generator) -> None:
    """keywords.onnx, a streaming model of log-mel frames: it keeps the last two of the frames before."""
    net = Net(mel=(1, 10, 40), h=(1, 2, 40))
    frames = net.op("Concat", "h", "mel", axis=1)
    x = net.op("Transpose", frames, perm=[0, 2, 1])
    net.channels[x] = 40
    word = net.head(net.conv(net.conv(x, 64, rank=1, act="Relu"), 64, rank=1, act="Relu"), 4)
    net.nodes.append(helper.make_node("Slice", [frames, *(net.ints(n) for n in (10, 12, 1))], ["h_next"]))
    onnx.save(net.proto(word, "h_next"), place / "keywords.onnx")
    (place / "sounds").mkdir()
    for number in range(8):
        with wave.open(str(place / "sounds" / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(rng.integers(-9000, 9000, 16000, np.int16).tobytes())


def test_the_commands_on_your_own_files(place: Path) -> None:
    lines = [line for block in indented(README)[1:] for line in block.splitlines() if line.startswith("dsedge ")]
    assert {re.split(r"[ .]", line)[2] for line in lines} == {"weights", "detector", "encoder", "keywords"}
    for make in (weights, detector, encoder, keywords):
        make(place, np.random.default_rng(0))
    for number, line in enumerate(lines):
        run(f"{line} -o build/own-{number}", place)


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
    assert named and named <= set(vars(quant_contract))
