"""Written repositories on Triton itself, see tools/triton_server.py: it loads them, and refuses what is found wrong."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triton_server
from graphs import Net

import dsedge
from dsedge.bundle import Bundle
from dsedge.emit.triton import write_repository
from dsedge.emit.triton.check import problems
from dsedge.emit.triton.config import make_config, warmup
from dsedge.emit.triton.text import Config, to_text

pytestmark = pytest.mark.skipif(not triton_server.ready(), reason="no Triton: run tools/triton_server.py")


def infer(url: str, model: str, feeds: dict[str, np.ndarray]) -> Any:
    """The first output for float inputs, or the text of a refusal."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
        for name, array in feeds.items()
    ]
    answer = triton_server.ask(f"{url}/models/{model}/infer", {"inputs": inputs})
    if isinstance(answer, str):
        return answer
    output = answer["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_it_serves_the_golden_outputs(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = Bundle(bundle_folder)
    write_repository([bundle], tmp_path / "repository", name="stacked", queue_delay_us=20_000)
    write_repository([bundle], tmp_path / "repository", name="alone", max_batch=0)
    scaled = Net(x=("N", 4), gain=("N",))
    gain = scaled.op("Unsqueeze", "gain", scaled.ints(1))
    model = scaled.model(scaled.op("Mul", scaled.gemm("x", 4, 4), gain))
    target = dsedge.compile(model, target="raspberry-pi-5", precision="fp32", output=tmp_path / "scaled")
    write_repository([target], tmp_path / "repository", name="scaled")
    golden = np.load(bundle.file("golden"))
    inputs, expected = golden["input_0"], golden["expected_0"]
    with triton_server.serve(tmp_path / "repository", tmp_path) as url:
        assert triton_server.states(url) == dict.fromkeys(("stacked", "alone", "scaled"), "READY")
        warm = (tmp_path / "executions").read_text().splitlines()
        assert sorted(warm) == ["[1, 1, 1, 1, 1, 1, 1, 1]"] * 2 + ["[1]"] * 3
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: infer(url, "stacked", {"x": inputs[n % len(inputs)]}), range(32)))
        for n, answer in enumerate(answers):
            np.testing.assert_allclose(answer, expected[n % len(inputs)], rtol=0.02, atol=0.02)
        assert any("," in line for line in (tmp_path / "executions").read_text().splitlines()[len(warm) :])
        np.testing.assert_allclose(infer(url, "alone", {"x": inputs[0]}), expected[0], rtol=0.02, atol=0.02)
        assert "batch-size must be <= 8" in infer(url, "stacked", {"x": np.concatenate([inputs[0]] * 9)})
        one = infer(url, "scaled", {"x": np.ones((1, 4), np.float32), "gain": np.ones((1, 1), np.float32)})
        two = infer(url, "scaled", {"x": np.ones((1, 4), np.float32), "gain": np.full((1, 1), 2, np.float32)})
        np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


def scalar(tensor: Config) -> None:
    tensor.update(dims=[1], reshape={"shape": []})


REFUSED: dict[str, Callable[[Config], object]] = {
    "negative-batch": lambda c: c.update(max_batch_size=-5),
    "preferred-above-maximum": lambda c: c["dynamic_batching"].update(preferred_batch_size=[32]),
    "preferred-zero": lambda c: c["dynamic_batching"].update(preferred_batch_size=[0]),
    "zero-dim": lambda c: c["input"][0].update(dims=[0, 12, 12]),
    "reshape-to-scalar": lambda c: (c.pop("dynamic_batching"), c.update(max_batch_size=0), scalar(c["input"][0])),
    "no-dims": lambda c: c["input"][0].update(dims=[]),
    "batch-axis-in-dims": lambda c: c["input"][0].update(dims=[1, 8, 12, 12]),
    "unknown-type": lambda c: c["input"][0].update(data_type="TYPE_FP8"),
    "unknown-kind": lambda c: c["instance_group"][0].update(kind="KIND_TPU"),
    "another-name": lambda c: c.update(name="else"),
    "unknown-input": lambda c: c["input"][0].update(name="y"),
    "no-file": lambda c: c["model_warmup"][0]["inputs"]["x"].update(input_data_file="lost"),
    "short-file": lambda c: c["model_warmup"][0]["inputs"]["x"].update(input_data_file="short"),
    "no-warm-up-input": lambda c: c["model_warmup"][0].update(inputs={}),
    "no-warm-up-data": lambda c: c["model_warmup"][0]["inputs"]["x"].pop("input_data_file"),
}


@pytest.mark.slow
def test_what_is_found_wrong_triton_refuses_too(bundle_folder: Path, tmp_path: Path) -> None:
    bundle, repository = Bundle(bundle_folder), tmp_path / "repository"
    model = bundle.manifest.model
    for name, change in REFUSED.items():
        write_repository([bundle], repository, name=name)
        config = make_config(bundle, name, {}, 8, (4,), 100, 1)
        config["model_warmup"] = warmup(config, [(1, 8, 12, 12)])
        (repository / name / "warmup" / "short").write_bytes(b"123")
        assert problems(config, repository / name, model) == []
        broken = copy.deepcopy(config)
        change(broken)
        assert problems(broken, repository / name, model)
        (repository / name / "config.pbtxt").write_text(to_text(broken))
    write_repository([bundle], repository, name="without-its-file")
    (repository / "without-its-file" / "1" / "model.onnx").unlink()
    shutil.copytree(repository / "no-file", repository / "sound")
    (repository / "sound" / "config.pbtxt").write_text(to_text(config | {"name": "sound"}))
    with triton_server.serve(repository, tmp_path) as url:
        states = triton_server.states(url)
    assert {name for name, state in states.items() if state == "READY"} == {"sound"}
