"""The runner's OpenVINO loader, and the runner on a bundle for OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Net, multi_output

pytest.importorskip("openvino")

from dsedge.backends.openvino import build
from dsedge.bench.runner import compile_openvino, load_onnxruntime, load_openvino


def test_outputs_come_in_the_models_order_for_any_batch(tmp_path: Path) -> None:
    model = multi_output()
    run = load_openvino(build(model.graph, tmp_path).main, 1)
    import onnx_ir as ir

    ir.save(model.graph, tmp_path / "model.onnx")
    reference = load_onnxruntime(tmp_path / "model.onnx", 1)
    for batch in (1, 3):
        (spec,) = model.inputs
        shape = [batch, *(d for d in spec.shape or () if isinstance(d, int))][: len(spec.shape or ())]
        feeds = {spec.name: np.random.default_rng(batch).standard_normal(shape).astype(np.float32)}
        first, second = run(feeds), run(feeds)
        for mine, same, wanted in zip(first, second, reference(feeds), strict=True):
            np.testing.assert_allclose(mine, wanted, atol=1e-4)
            assert mine.dtype == wanted.dtype
            assert mine is not same
            assert not np.shares_memory(mine, same)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    net = Net(x=(1, 8))
    run = load_openvino(build(net.model(net.gemm("x", 8, 4)).graph, tmp_path).main)
    x = np.zeros((1, 8), np.float32)
    refused = (({"x": x.astype(np.float64)}, "float32"), ({"z": x}, "takes the inputs"), ({}, "takes the inputs"))
    for feeds, said in refused:
        with pytest.raises(ValueError, match=said):
            run(feeds)
    with pytest.raises((RuntimeError, ValueError)):
        run({"x": np.zeros((2, 8), np.float32)})


def test_float_is_float32_and_there_is_one_stream(tmp_path: Path) -> None:
    net = Net(x=(1, 8))
    compiled = compile_openvino(build(net.model(net.gemm("x", 8, 4)).graph, tmp_path).main, 1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
