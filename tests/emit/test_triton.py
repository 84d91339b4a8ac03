"""Triton's model repository: what is written, that its schema reads it, and that what it would refuse is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import triton_schema
import typer
from deferred import BUILD, edited, refused, tensorrt
from graphs import Net
from typer.testing import CliRunner

import dsedge
from dsedge.backends.tensorrt.settings import SCRIPTS
from dsedge.bundle import Bundle, describe
from dsedge.cli.emit import emit as cli
from dsedge.emit import emit
from dsedge.emit.triton import Repository, write_repository
from dsedge.emit.triton.config import raw
from dsedge.emit.triton.engines import BUILD as BUILD_SCRIPT
from dsedge.emit.triton.engines import PLAN
from dsedge.emit.triton.text import Config, to_text

DIGITS = Path(__file__).parents[2] / "models" / "digits_cnn"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_configured(repository: Repository, config: Config) -> None:
    """The text says this, as Triton's own schema reads it too where tools/triton_schema.py installed that."""
    text = (repository.path / repository.model / "config.pbtxt").read_text()
    assert text.partition("\n")[2] == to_text(config)
    if triton_schema.ready():
        assert triton_schema.read([repository.path / repository.model / "config.pbtxt"]) == [config]


def test_a_bundle_for_onnx_runtime(tmp_path: Path) -> None:
    data = DIGITS / "calibration.npz"
    bundle = dsedge.compile(
        DIGITS / "digits_cnn.onnx", target="raspberry-pi-5", calibration=data, output=tmp_path / "b"
    )
    repository = emit("triton", [bundle], tmp_path / "repository")
    assert (repository.model, repository.missing, repository.notes) == ("digits_cnn", (), ())
    model = repository.path / "digits_cnn"
    assert files(repository.path) == {
        f"digits_cnn/{name}" for name in ("config.pbtxt", "README.md", "1/model.onnx", "warmup/input_0")
    }
    assert (model / "1" / "model.onnx").read_bytes() == bundle.file("model").read_bytes()
    graph = onnx.load(model / "1" / "model.onnx").graph
    dims = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in [*graph.input, *graph.output]}
    golden = np.load(bundle.file("golden"))["input_0"]
    assert np.array_equal(np.fromfile(model / "warmup" / "input_0", np.float32), golden[0][:1].ravel())
    sample = {"image": {"data_type": "TYPE_FP32", "dims": dims["image"], "input_data_file": "input_0"}}
    assert_configured(
        repository,
        {
            "name": "digits_cnn",
            "backend": "onnxruntime",
            "max_batch_size": 8,
            "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": dims["image"]}],
            "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": dims["logits"]}],
            "instance_group": [{"kind": "KIND_CPU", "count": 1}],
            "dynamic_batching": {"max_queue_delay_microseconds": 100},
            "model_warmup": [{"name": f"golden_{n}", "batch_size": n, "inputs": sample} for n in (1, 8)],
        },
    )


def test_the_verb(bundle_folder: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cli)
    arguments = ["triton", str(tensorrt(bundle_folder, tmp_path / "t4", "t4").path), "-o", str(tmp_path / "r")]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "1000"})
    assert done.exit_code == 0 and "1/model_t4.plan is not there yet: run" in done.output, done.output
    done = CliRunner().invoke(app, [*arguments, "--name", "net-1", "--max-batch", "0", "--json"])
    model = tmp_path / "r" / json.loads(done.output)["model"]
    assert model.name == "net-1"
    assert json.loads(done.output)["missing"] == [f"{model.name}/1/model_t4.plan"]
    assert "max_batch_size: 0\n" in (model / "config.pbtxt").read_text()
    assert refused(lambda: CliRunner().invoke(app, arguments, catch_exceptions=False)).code == "DS801"


def test_one_repository_for_two_gpus(bundle_folder: Path, tmp_path: Path) -> None:
    bundles = [tensorrt(bundle_folder, tmp_path / board, board, built=board == "a100") for board in ("t4", "a100")]
    options: dict[str, Any] = {"name": "net", "max_batch": 16, "preferred": (8,), "instances": 2}
    repository = write_repository(bundles, tmp_path / "repository", queue_delay_us=200, **options)
    assert repository.missing == ("net/1/model_t4.plan",)
    model = repository.path / "net"
    kept = {"manifest.json", *(info.path for info in bundles[0].manifest.files)}
    own = {"config.pbtxt", "README.md", "build.sh", "1/model_a100.plan", "warmup/input_0"}
    assert files(model) == own | {f"bundles/t4/{path}" for path in kept}
    assert (model / "1" / "model_a100.plan").read_text() == "engine for a100"
    text = (model / "README.md").read_text()
    assert text.index("Not ready to serve") < text.index("| made of |") and "`1/model_t4.plan`" in text
    assert "`1/model_a100.plan` was built by TensorRT 10.3.0" in text
    Bundle(model / "bundles" / "t4").check_files()
    sample = {"x": {"data_type": "TYPE_FP32", "dims": [8, 12, 12], "input_data_file": "input_0"}}
    outputs = bundles[0].manifest.model.outputs
    assert_configured(
        repository,
        {
            "name": "net",
            "backend": "tensorrt",
            "max_batch_size": 16,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [8, 12, 12]}],
            "output": [{"name": outputs[0]["name"], "data_type": "TYPE_FP32", "dims": [10]}],
            "instance_group": [{"kind": "KIND_GPU", "count": 2}],
            "dynamic_batching": {"preferred_batch_size": [8], "max_queue_delay_microseconds": 200},
            "cc_model_filenames": {"7.5": "model_t4.plan", "8.0": "model_a100.plan"},
            "model_warmup": [{"name": f"golden_{n}", "batch_size": n, "inputs": sample} for n in (1, 8, 16)],
        },
    )


def test_the_script_of_a_bundle_writes_what_is_taken_over() -> None:
    assert f"build {PLAN}," in SCRIPTS[BUILD_SCRIPT].read_text()


def run_build(model: Path, capability: str) -> subprocess.CompletedProcess[str]:
    """build.sh on a machine whose GPU has a compute capability: nvidia-smi answers what the real one prints."""
    tools = model.parent / "tools"
    tools.mkdir(exist_ok=True)
    script = tools / "nvidia-smi"
    wanted = "--query-gpu=compute_cap --format=csv,noheader"
    script.write_text(f'#!/bin/sh\n[ "$*" = "{wanted}" ] || exit 9\nprintf "{capability}\\n{capability}\\n"\n')
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    command = [str(model / "build.sh")]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)


def test_the_script_builds_what_is_missing(bundle_folder: Path, tmp_path: Path) -> None:
    bundles = [tensorrt(bundle_folder, tmp_path / board, board) for board in ("t4", "a100")]
    repository = write_repository(bundles, tmp_path / "repository", name="net")
    model = repository.path / "net"
    before = files(model)
    done = run_build(model, "8.9")
    assert done.returncode == 2 and "this GPU is 8.9" in done.stderr and files(model) == before
    done = run_build(model, "8.0")
    assert (done.returncode, done.stderr) == (0, "") and files(model) == before | {"1/model_a100.plan"}
    done = run_build(model, "7.5")
    assert done.returncode == 0 and files(model) == before | {"1/model_a100.plan", "1/model_t4.plan"}
    assert {f"net/{name}" for name in files(model) - before} == set(repository.missing)
    assert (model / "1" / "model_t4.plan").read_bytes() == (model / "bundles/t4/model.fp32.onnx").read_bytes()[:64]


def test_a_build_that_fails_leaves_nothing(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = tensorrt(bundle_folder, tmp_path / "t4", "t4", build=f"{BUILD}sys.exit(3)\n")
    model = write_repository([bundle], tmp_path / "repository", name="net").path / "net"
    before = files(model)
    assert run_build(model, "7.5").returncode == 3 and files(model) == before


def compiled(net: Net, output: str, folder: Path) -> Bundle:
    return dsedge.compile(net.model(output), target="raspberry-pi-5", precision="fp32", output=folder)


def image_net(batch: int | str) -> tuple[Net, str]:
    net = Net(x=(batch, 8, 12, 12))
    return net, net.head(net.conv("x", 16, act="Relu"))


def test_requests_that_cannot_be_stacked_are_not(tmp_path: Path) -> None:
    fixed = compiled(*image_net(1), tmp_path / "fixed")
    net, scores = image_net("N")
    mixing = compiled(net, net.op("Softmax", scores, axis=0), tmp_path / "mixing")
    for bundle, axis, reason in ((fixed, 1, "fixed"), (mixing, -1, "another then than for each alone")):
        repository = write_repository([bundle], tmp_path / "repository", name=bundle.path.name)
        assert len(repository.notes) == 1 and reason in repository.notes[0]
        text = (repository.path / repository.model / "config.pbtxt").read_text()
        assert (
            "max_batch_size: 0\n" in text and f"dims: [ {axis}, 8, 12, 12 ]" in text and "dynamic_batching" not in text
        )
        assert reason in (repository.path / repository.model / "README.md").read_text()
    error = refused(lambda: write_repository([fixed], tmp_path / "other", max_batch=4))
    assert error.code == "DS401" and "the model's is 1" in str(error) and not (tmp_path / "other").exists()
    assert write_repository([mixing], tmp_path / "other", max_batch=4).notes == ()  # who says so is believed


def test_engines_are_stacked_as_their_profiles_say(bundle_folder: Path, tmp_path: Path) -> None:
    t4 = tensorrt(bundle_folder, tmp_path / "t4", "t4", most=16)
    a100 = tensorrt(bundle_folder, tmp_path / "a100", "a100", most=32)
    repository = write_repository([t4, a100], tmp_path / "repository", name="net")
    text = (repository.path / "net" / "config.pbtxt").read_text()
    assert repository.notes == () and "max_batch_size: 16\n" in text and "preferred_batch_size: [ 4 ]" in text
    error = refused(lambda: write_repository([t4, a100], tmp_path / "other", max_batch=32))
    assert error.code == "DS145" and "the engines take 16 at most" in str(error)


def test_scalars_and_strings(tmp_path: Path) -> None:
    net = Net(x=("N", 4), gain=("N",))
    gain = net.op("Unsqueeze", "gain", net.ints(1))
    bundle = compiled(net, net.op("Mul", net.gemm("x", 4, 4), gain), tmp_path / "bundle")
    repository = write_repository([bundle], tmp_path / "repository", name="net")
    text = (repository.path / "net" / "config.pbtxt").read_text()
    assert "dims: [ 1 ]\n  reshape {\n    shape: [ ]\n  }" in text
    net = Net(x=("N", 4), gain=())
    bundle = compiled(net, net.op("Mul", net.gemm("x", 4, 4), "gain"), tmp_path / "scalar")
    error = refused(lambda: write_repository([bundle], tmp_path / "repository", name="scalar"))
    assert error.code == "DS401" and "Triton serves no scalars" in str(error)
    assert raw(np.array(["ab", "ü"])) == b"\x02\0\0\0ab\x02\0\0\0\xc3\xbc"
    assert raw(np.array([1], ">i2")) == b"\x01\0"


def test_what_makes_no_model(bundle_folder: Path, tmp_path: Path) -> None:
    ours, t4 = Bundle(bundle_folder), tensorrt(bundle_folder, tmp_path / "t4", "t4")
    again = tensorrt(bundle_folder, tmp_path / "again", "my-t4")
    other = tensorrt(bundle_folder, tmp_path / "other", "a100")
    other = edited(other.path, lambda m: m["model"].update(fingerprint="1" * 64))
    shutil.copytree(bundle_folder, tmp_path / "lite")
    lite = edited(tmp_path / "lite", lambda m: m["runtime"].update(name="litert"))
    unnamed = edited(Path(shutil.copytree(bundle_folder, tmp_path / "u")), lambda m: m["model"].update(name="../up"))
    for bundles, said in (
        ([], "no bundle"),
        ([ours, ours], "one bundle makes a model, not 2"),
        ([lite], "no backend for litert"),
        ([t4, again], "both have compute capability 7.5"),
        ([t4, other], "not the model of"),
        ([t4, ours], "not the runtime of"),
        ([unnamed], "'../up' cannot be the name"),
    ):
        error = refused(lambda given=bundles: write_repository(given, tmp_path / "r"))
        assert error.code == "DS145" and said in str(error), error
    assert refused(lambda: emit("torchserve", [ours], tmp_path / "r")).code == "DS145"
    assert not (tmp_path / "r").exists()


def test_damaged_bundles(bundle_folder: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(bundle_folder, tmp_path / "whole"))
    (bundle_folder / "golden.npz").write_bytes(b"PK")
    assert refused(lambda: write_repository([Bundle(bundle_folder)], tmp_path / "r")).code == "DS803"
    golden = describe(bundle_folder, {"golden.npz": "golden"})[0].model_dump()

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = [*(info for info in manifest["files"] if info["role"] != "golden"), golden]

    error = refused(lambda: write_repository([edited(bundle_folder, change)], tmp_path / "r"))
    assert error.code == "DS803" and "golden inputs cannot be read" in str(error)
    hostile: list[dict[str, Any]] = [{"shape": 3}, {"shape": [1.5]}, {"name": None}, {"layout": 1}, {"shape": []}]
    for number, change in enumerate(hostile):
        copied = Path(shutil.copytree(whole, tmp_path / f"copy-{number}"))
        bundle = edited(copied, lambda m, new=change: m["model"]["inputs"][0].update(new))
        assert refused(lambda given=bundle: write_repository([given], tmp_path / "r")).code == "DS803"
    t4 = tensorrt(whole, tmp_path / "t4", "t4")
    settings = json.loads((t4.path / "build.json").read_text())
    edited(t4.path, lambda m: m.update(files=[f for f in m["files"] if f["path"] != "build.json"]))
    for broken in ({}, settings | {"target": {"name": "..", "compute_capability": "7.5"}}):
        (t4.path / "build.json").write_text(json.dumps(broken))
        error = refused(lambda: write_repository([Bundle(t4.path)], tmp_path / "r"))
        assert error.code == "DS803" and "build.json" in str(error), error
    assert not (tmp_path / "r").exists()


def test_an_engine_that_is_not_the_recorded_one(bundle_folder: Path, tmp_path: Path) -> None:
    t4 = tensorrt(bundle_folder, tmp_path / "t4", "t4", built=True)
    record = json.loads((t4.path / "engine.json").read_text())
    for broken, code, said in (
        (record | {"gpu": {"compute_capability": "8.6"}}, "DS145", "a GPU of compute capability 8.6"),
        (record | {"engine": {"sha256": "0" * 64}}, "DS803", "not the engine that engine.json is about"),
        ({}, "DS803", "does not say how engine.plan was built"),
    ):
        (t4.path / "engine.json").write_text(json.dumps(broken))
        error = refused(lambda: write_repository([t4], tmp_path / "r"))
        assert error.code == code and said in str(error), error
    (t4.path / "engine.plan").unlink()
    assert len(write_repository([t4], tmp_path / "r").missing) == 1


def test_a_model_that_is_there_is_replaced_only_when_asked(bundle_folder: Path, tmp_path: Path) -> None:
    bundle, repository = Bundle(bundle_folder), tmp_path / "repository"
    (repository / "mine").mkdir(parents=True)
    (repository / "mine" / "config.pbtxt").write_text('name: "mine"\n')
    write_repository([bundle], repository, name="net")
    (repository / "net" / "1" / "model.onnx").write_text("old")
    assert refused(lambda: write_repository([bundle], repository, name="net")).code == "DS801"
    assert (repository / "net" / "1" / "model.onnx").read_text() == "old"
    write_repository([bundle], repository, name="net", force=True)
    assert (repository / "net" / "1" / "model.onnx").read_bytes() == bundle.file("model").read_bytes()
    assert refused(lambda: write_repository([bundle], repository, name="mine", force=True)).code == "DS801"
    assert {path.name for path in repository.iterdir()} == {"mine", "net"}
