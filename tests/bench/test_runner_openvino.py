"""The runner's OpenVINO loader, and the runner on a bundle for OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import Net, multi_output

pytest.importorskip("openvino")

from dsedge.backends.openvino import build
from dsedge.bench.runner import OPENVINO_PRECISION, compile_openvino, load_onnxruntime, load_openvino


def test_outputs_come_in_the_models_order_for_any_batch(tmp_path: Path) -> None:
    model = multi_output()
    run = load_openvino(build(model.graph, tmp_path).main, 1)
    import onnx_ir as ir

    ir.save(model.graph, tmp_path / "model.onnx")
    reference = load_onnxruntime(tmp_path / "model.onnx", 1)
    assert reference.conditions["intra_op_threads"] == 1
    assert reference.conditions["providers"] == "CPUExecutionProvider"
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
    with pytest.raises(ValueError, match=r"^input 'x': the model takes float32 \[1, 8\], not float32 \[2, 8\]$"):
        run({"x": np.zeros((2, 8), np.float32)})


def test_what_the_file_says_of_precision_is_one_word_or_nothing(tmp_path: Path) -> None:
    import openvino

    path = build(multi_output().graph, tmp_path).main
    for word, wanted in (("bf16", {"bf16", "f32"}), ("f16", {"f32"}), ("../../etc", {"f32"}), ("", {"f32"})):
        model = openvino.Core().read_model(path)
        model.set_rt_info(word, OPENVINO_PRECISION)
        openvino.save_model(model, tmp_path / "told.xml")
        told = load_openvino(tmp_path / "told.xml", 1).conditions
        assert told["inference_precision"] in wanted, "bf16 where this CPU has it"
        assert (told["streams"], told["inference_threads"], told["performance_hint"]) == (1, 1, "LATENCY")


def test_float_is_float32_and_there_is_one_stream(tmp_path: Path) -> None:
    net = Net(x=(1, 8))
    compiled = compile_openvino(build(net.model(net.gemm("x", 8, 4)).graph, tmp_path).main, 1)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
