from __future__ import annotations

from pathlib import Path

import demo
import gemm_threshold
import numpy as np
import pytest
import stem_threshold
from common import HOST, build_int8, time_in_turns

from dsedge.backends.base import load_backend
from dsedge.target import load_target

CONTRACT = load_backend("onnxruntime").contract(load_target(HOST))
on_the_host = pytest.mark.skipif(
    not load_target(HOST).matches_host()[0], reason="this machine does not have the target's instruction set"
)


@pytest.mark.parametrize("job", demo.JOBS, ids=str)
def test_the_demo_passes_its_gates(job: demo.Job, tmp_path: Path) -> None:
    manifest = demo.compile_job(job, tmp_path).manifest
    assert [gate.name for gate in manifest.failed if not gate.name.startswith("latency")] == []
    assert manifest.metrics[0].drop <= job.max_drop


@on_the_host
def test_a_small_gemm_is_int8_only_without_the_size_rule(tmp_path: Path) -> None:
    gemm_threshold.write_gemm(tmp_path / "gemm.onnx", 1, 64, 10)
    feeds = {"x": np.ones((1, 64), np.float32)}
    with pytest.raises(SystemExit):
        build_int8(tmp_path / "gemm.onnx", CONTRACT, feeds, tmp_path)
    build_int8(tmp_path / "gemm.onnx", gemm_threshold.without_size_rule(CONTRACT), feeds, tmp_path)


@on_the_host
def test_a_stem_is_compared_in_both_precisions(tmp_path: Path) -> None:
    stem = stem_threshold.Stem(3, 16, 3, 2, 32)
    assert stem.products == 27
    stem_threshold.write_stem(tmp_path / "stem.onnx", stem)
    feeds = {"x": np.ones((1, 3, 32, 32), np.float32)}
    sizes = []
    for name, lifted in (("float", ("stem", "relu")), ("int8", ())):
        (tmp_path / name).mkdir()
        contract = stem_threshold.without_stem_rule(CONTRACT)
        sizes.append(build_int8(tmp_path / "stem.onnx", contract, feeds, tmp_path / name, lifted).stat().st_size)
    assert sizes[0] != sizes[1]


def test_every_function_is_timed_in_every_round() -> None:
    calls: list[str] = []
    functions = [lambda feeds, name=name: calls.append(name) or [] for name in "abc"]
    times = time_in_turns(functions, {}, seconds=0.0)
    assert times.shape == (3, 20)
    assert (times > 0).all()
    rounds = ["".join(calls[i : i + 3]) for i in range(len(calls) - 60, len(calls), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len(set(rounds)) > 1
