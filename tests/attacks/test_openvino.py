"""Hostile and unusual models for OpenVINO, damaged bundles, and a machine without it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from attacks.hostile import ROOT, Ended, command, environment, refused, save
from attacks.test_litert import MATMUL, NODE, WEIGHT, model, one
from graphs import Net, chain

pytest.importorskip("openvino")

import dsedge

Attempt = Callable[..., Ended]
BOARD = "pos-x86-celeron"  # nothing is measured for it where there is VNNI
OPTIONS = ("--runtime", "openvino")


def parsed(text: str) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {text}')
    bodies = [a.g for node in proto.graph.node for a in node.attribute if a.HasField("g")]
    for node in (*proto.graph.node, *(node for body in bodies for node in body.node)):
        node.name = f"a_{node.op_type}"
    return proto


BRANCHES = "<then_branch = t () => (float[1] u) { u = Det(x) }, else_branch = e () => (float[1] v) { v = Det(x) }>"
BODY = "<body = b (int64 i, bool k, float[1] a) => (bool l, float[1] s) { l = Not(k) d = Det(x) s = Add(a, d) }>"

REFUSED: dict[str, tuple[str, str, Callable[[], onnx.ModelProto]]] = {
    "an operator of a branch": (
        "DS201",
        "Det 'a_Det': OpenVINO has no such operator",
        lambda: parsed(f"(float[1,4,4] x, bool c) => (float[1] y) {{ y = If (c) {BRANCHES} }}"),
    ),
    "an operator of a loop": (
        "DS201",
        "Det 'a_Det': OpenVINO has no such operator",
        lambda: parsed(
            f"(float[1,4,4] x, float[1] z, int64 n, bool c) => (float[1] y) {{ y = Loop (n, c, z) {BODY} }}"
        ),
    ),
    "two operators of one kind and another": (
        "DS201",
        "cannot run 2 nodes: Det 'a_Det'",
        lambda: parsed("(float[2,4,4] x) => (float[2] y) { a = Det(x) b = Exp(x) c = Det(b) y = Add(a, c) }"),
    ),
    "a sequence": (
        "DS201",
        "SequenceConstruct 'a_SequenceConstruct': OpenVINO has no sequences",
        lambda: parsed("(float[1,4] x) => (seq(float[1,4]) y) { y = SequenceConstruct(x, x) }"),
    ),
    "text": (
        "DS201",
        "Identity 'a_Identity': it works on text",
        lambda: parsed("(string[1,4] x) => (string[1,4] y) { y = Identity(x) }"),
    ),
    "codes made at run time": (
        "DS109",
        "DynamicQuantizeLinear",
        lambda: parsed("(float[1,8] x) => (uint8[1,8] y) { y, s, z = DynamicQuantizeLinear(x) }"),
    ),
    "an axis of length 0": ("DS106", "axis of length 0", lambda: model(MATMUL, x=(0, 8), w=WEIGHT)),
    "weights of no number": ("DS105", "weight 'w' holds NaN", lambda: model(MATMUL, w=WEIGHT * np.float32(np.nan))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(attempt: Attempt, tmp_path: Path, name: str) -> None:
    code, words, make = REFUSED[name]
    path = save(make(), tmp_path / "m.onnx")
    refused(attempt(*OPTIONS, model=path, calib="random", target=BOARD), code, words)


COMPILED: dict[str, Callable[[], onnx.ModelProto]] = {
    "int64": lambda: parsed("(int64[1,4] x) => (float[1,4] y) { a = Cast<to=1>(x) y = Exp(a) }"),
    "booleans": lambda: parsed("(float[1,4] x, bool[1,4] m) => (float[1,4] y) { a = Neg(x) y = Where(m, a, x) }"),
    "float64": lambda: parsed("(double[1,4] x) => (double[1,4] y) { a = Exp(x) y = Mul(a, x) }"),
    "float16": lambda: parsed("(float16[1,4] x) => (float16[1,4] y) { a = Exp(x) y = Mul(a, x) }"),
    "one number": lambda: parsed("(float x) => (float y) { y = Relu(x) }"),
    "an input that is not read": lambda: parsed("(float[1,4] x, float[1,4] u) => (float[1,4] y) { y = Relu(x) }"),
    "an output of open length": lambda: parsed("(float[1,4] x) => (int64[2,M] y) { y = NonZero(x) }"),
    "an infinite bound": lambda: one("Add", "a", a=np.full(8, -np.inf, np.float32)),
    "a fixed batch": lambda: model(MATMUL, x=(3, 8), w=WEIGHT),
    "weights below float32": lambda: model(MATMUL, w=WEIGHT * np.float32(1e-42)),
    "weights near the end of float32": lambda: model(MATMUL, w=WEIGHT * np.float32(1e37)),
    "a name that is no identifier": lambda: model(
        NODE("MatMul", ["x", "w"], ["y"], name='"/><layer id="0" name="\u202e'), w=WEIGHT
    ),
}


@pytest.mark.parametrize("name", COMPILED)
def test_it_compiles_and_verifies(attempt: Attempt, cli: Attempt, tmp_path: Path, name: str) -> None:
    path = save(COMPILED[name](), tmp_path / "m.onnx")
    ended = attempt(*OPTIONS, model=path, calib="random", target=BOARD)
    assert ended.code in (0, 1), ended
    assert cli("verify", tmp_path / "out" / "bundle").code == 0


def test_a_fixed_batch_is_compared_sample_by_sample(tmp_path: Path) -> None:
    net = Net(x=(3, 256))
    source = net.model(net.gemm(net.act("Relu", net.gemm("x", 256, 512)), 512, 64))
    rng = np.random.default_rng(0)
    data = [{"x": rng.standard_normal((3, 256), dtype=np.float32)} for _ in range(5)]
    bundle = dsedge.compile(source, target=BOARD, runtime="openvino", calibration=data, output=tmp_path / "out")
    with np.load(bundle.file("golden"), allow_pickle=False) as golden:
        assert golden["expected_0"].shape == (4, 3, 64)
        np.testing.assert_array_equal(golden["input_0"], [sample["x"] for sample in data[:4]])
    assert bundle.manifest.fidelity is not None and (bundle.manifest.fidelity.sqnr_db or 0) > 25


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    folder = tmp_path_factory.mktemp("openvino") / "bundle"
    dsedge.compile(chain(), target=BOARD, runtime="openvino", calibration="random", output=folder)
    return folder


def cut(file: str, length: int) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length]) and None


def replaced(pattern: str, by: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / "model.xml").read_text()
        assert re.search(pattern, text)
        (folder / "model.xml").write_text(re.sub(pattern, by, text))

    return change


def forget_weights(folder: Path) -> None:
    """The largest constant becomes zeros."""
    found = re.findall(r'offset="(\d+)" size="(\d+)"', (folder / "model.xml").read_text())
    offset, size = max(((int(offset), int(size)) for offset, size in found), key=lambda pair: pair[1])
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[:offset] + bytes(size) + content[offset + size :])


DAMAGED: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "an empty graph": ("DS502", "Unable to read the model", cut("model.xml", 0)),
    "a graph cut off": ("DS502", "tags mismatch", cut("model.xml", 200)),
    "no weights": ("DS502", "Incorrect weights", cut("model.bin", 0)),
    "weights cut off": ("DS502", "Incorrect weights", cut("model.bin", -1)),
    "weights elsewhere": ("DS502", "Incorrect weights", replaced(r'offset="\d+"', 'offset="99999999999"')),
    "weights before the file": ("DS502", "Converting input model", replaced(r'offset="\d+"', 'offset="-8"')),
    "more weights than there are": ("DS502", "Incorrect weights", replaced(r'\bsize="\d+"', 'size="99999999999"')),
    "an unknown operator": ("DS502", "Bogus", replaced('type="Convolution"', 'type="Bogus"')),
    "an axis as long as the memory": (
        "DS502",
        "bad_alloc",
        replaced('shape="[^"]*,12,12"', 'shape="1,8,999999,999999"'),
    ),
    "other weights": ("DS501", "golden outputs", forget_weights),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_that_its_hashes_hide(cli: Attempt, written: Path, tmp_path: Path, name: str) -> None:
    """With the hashes that belong to it, as one would who wants to go unnoticed; then without."""
    code, words, damage = DAMAGED[name]
    bundle = Path(shutil.copytree(written, tmp_path / "bundle"))
    damage(bundle)
    refused(cli("verify", bundle), "DS803", "sha256")
    manifest = json.loads((bundle / "manifest.json").read_text())
    for info in manifest["files"]:
        content = (bundle / info["path"]).read_bytes()
        info |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    ended = cli("verify", bundle)
    assert (ended.code, ended.out) == (3, "") and f"error[{code}]" in ended.err and words in ended.err, ended
    assert "Traceback" not in ended.err
    done = subprocess.run([sys.executable, bundle / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert code == "DS501" or words in done.stderr


def test_a_bundle_without_its_weights(cli: Attempt, written: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(written, tmp_path / "bundle"))
    (bundle / "model.bin").unlink()
    refused(cli("verify", bundle), "DS803", "model.bin", "missing")
    done = subprocess.run([sys.executable, bundle / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is missing beside run.py" in done.stderr and "Traceback" not in done.stderr


HIDDEN = """
import importlib.metadata as metadata, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openvino":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
found = metadata.MetadataPathFinder.find_distributions
def others(*context):
    return (d for d in found(*context) if d.metadata["Name"] != "openvino")
metadata.MetadataPathFinder.find_distributions = staticmethod(others)
"""


@pytest.fixture
def without(tmp_path: Path) -> Attempt:
    """Runs a script in a process for which OpenVINO is not installed."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HIDDEN)
    paths = environment(PYTHONPATH=os.pathsep.join([str(hook), str(ROOT)]))

    def run(*arguments: str | Path) -> Ended:
        done = subprocess.run(
            list(map(str, arguments)), capture_output=True, text=True, check=False, timeout=120, env=paths
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


PIP = "pip install 'dsedge[openvino]'"


def test_a_machine_without_it_says_what_to_install(without: Attempt, written: Path, tmp_path: Path) -> None:
    source = save(model(MATMUL, w=WEIGHT), tmp_path / "m.onnx")
    out = tmp_path / "out"
    compile = command("compile", source, "-t", "pos-x86", "--calib", "random", "-o", out)
    refused(without(*compile, *OPTIONS), "DS402", "openvino is not installed", PIP, exit_code=3)
    assert not out.exists()
    ended = without(*compile)
    assert ended.code in (0, 1), ended
    manifest = json.loads((out / "manifest.json").read_text())
    assert f"openvino is not installed ({PIP}), so it is not among the candidates" in manifest["notes"]
    assert "openvino" not in {row["runtime"] for row in manifest["candidates"]}
    refused(without(*command("verify", written)), "DS402", PIP, exit_code=3)
    ended = without(sys.executable, written / "run.py")
    assert (ended.code, ended.err) == (2, "run.py: OpenVINO is missing: pip install openvino\n")
    ended = without(*command("doctor"))
    assert ended.code == 0 and "dsedge[openvino]" in ended.out
