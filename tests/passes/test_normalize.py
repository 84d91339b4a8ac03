from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsedge.errors import PassError
from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.normalize import FINISH, NORMALIZE, normalize

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
# How many nodes of some operators are left of each file.
FILES = {
    "byte_bidi_lstm": {"LSTM": 2, "ConstantOfShape": 0},
    "gesture_history_lstm": {"LSTM": 1, "Gemm": 2, "Expand": 0},
    "gesture_keypoint_mlp": {"Gemm": 3, "MatMul": 0},
    "lgbm_classifier": {},
    "light_densenet121": {"BatchNormalization": 62, "Mul": 0, "Add": 0},
    "light_inception_v1": {"Dropout": 0},
    "light_shufflenet": {"BatchNormalization": 0, "Add": 13},
    "light_squeezenet": {"ConstantOfShape": 0},
    "mnist_cntk_op7": {"Conv": 2, "Gemm": 1, "Add": 0},
    "poly_ext_weights": {},
    "poly_loop": {"Loop": 1},
    "poly_qdq_conv": {"QuantizeLinear": 1, "DequantizeLinear": 1},
    "poly_residual_block": {"BatchNormalization": 0, "Add": 1},
    "poly_scan": {"Scan": 1},
    "poly_unsorted": {},
    "ppocr_ch_PP-OCRv2_det_infer": {"BatchNormalization": 0, "Constant": 0, "HardSwish": 20, "Clip": 0, "Div": 0},
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": {"Shape": 0, "Gemm": 1, "HardSwish": 18, "HardSigmoid": 9, "Clip": 0},
    "prisma_nchw_op7": {"BatchNormalization": 0, "Pad": 0},
    "qlstm_quantized": {},
    "tiny_bert_optimum": {"LayerNormalization": 5, "Gelu": 2, "Erf": 0, "ReduceMean": 0},
    "ultraface_slim320_simplified": {},
    "xgb_classifier": {},
}

# ONNX Runtime refuses these: two nodes of one name, no bfloat16 kernel, operators of onnxruntime-extensions.
NOT_RUN = ("poly_bad_graph_with_duplicate_node_names", "poly_matmul.bf16", "sr_with_pre_post_custom_op18")


def _load(name: str) -> Model:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return _model(ir.load(path))


def _model(graph: ir.Model) -> Model:
    return Model(graph, "m", "", "m.onnx", graph.opset_imports.get("", 0))


def _run(model: bytes | str, feeds: dict[str, np.ndarray] | None = None) -> tuple[dict, dict]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    if feeds is None:
        rng, feeds = np.random.default_rng(0), {}
        for value in session.get_inputs():
            lengths = [2, *([64] if len(value.shape) == 4 else [9]) * 9]
            shape = [dim if isinstance(dim, int) and dim > 0 else lengths[i] for i, dim in enumerate(value.shape)]
            real = value.type == "tensor(float)"
            draw = rng.standard_normal(shape) if real else rng.integers(0, 2, shape)
            feeds[value.name] = np.asarray(draw, np.float32 if real else value.type[7:-1])
    return feeds, dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


def _check(normal: Model) -> None:
    assert normal.opset == 20
    onnx.checker.check_model(onnx.load_from_string(normal.to_bytes()), full_check=True)
    names = [node.name for node in normal.graph.graph.all_nodes()]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_zoo_computes_the_same(name):
    normal, _ = normalize(_load(name))
    _check(normal)
    ops = Counter(node.op_type for node in normal.graph.graph.all_nodes())
    assert {op: ops[op] for op in FILES[name]} == FILES[name]

    feeds, expected = _run(str(ZOO / f"{name}.onnx"))
    _, actual = _run(normal.to_bytes(), feeds)
    assert list(actual) == list(expected)
    for key, value in expected.items():
        scale = float(np.abs(value).max()) if value.size else 0.0
        np.testing.assert_allclose(actual[key], value, rtol=1e-4, atol=2e-5 * scale, err_msg=key)
    assert not any(record.changed for record in normalize(normal)[1])


@pytest.mark.parametrize("name", NOT_RUN)
def test_a_file_that_cannot_be_run_is_normalized_all_the_same(name):
    _check(normalize(_load(name))[0])


def test_the_model_that_came_in_is_untouched_and_weights_are_shared(graph):
    arrays = {"w": np.ones((64, 64), np.float32), "v": np.ones(64, np.float32)}
    body = "m = MatMul(x, w)  b = BatchNormalization(m, v, v, v, v)  i = Identity(b)  y = MatMul(i, w)"
    source = _model(graph("float[N, 64] x", "float[N, 64] y", body, opset=13, ir_version=7, **arrays))
    before = source.to_bytes()
    normal, records = normalize(source)
    assert source.to_bytes() == before
    assert (source.opset, normal.opset) == (13, 20)
    weights = [model.graph.graph.initializers["w"].const_value for model in (source, normal)]
    assert weights[0] is weights[1]
    assert [record.name for record in records] == [*NORMALIZE, *FINISH]
    assert {record.name for record in records if record.changed} == {
        "upgrade-opset",
        "infer-shapes",
        "eliminate-identity",
        "matmul-add-to-gemm",
        "fold-batchnorm",
        "clean-up",
    }


def test_notes_reach_the_record(graph):
    arrays = {"w": np.ones((4, 3, 3, 3), np.float32), "v": np.ones(4, np.float32)}
    body = "c = Conv(x, w)  n = BatchNormalization(c, v, v, v, v)  y = Add(n, c)"
    _, records = normalize(_model(graph("float[N,3,8,8] x", "float[N,4,6,6] y", body, **arrays)))
    notes = {record.name: record.notes for record in records}
    assert notes["fold-batchnorm"] == ("n_n not folded: the output of n_c has 2 consumers",)


def test_every_built_in_pass_runs():
    assert {*NORMALIZE, *FINISH} == set(discover())


def test_a_pass_that_fails_is_named(graph):
    model = graph("float[2] x", "float[2] y", "a = Relu(x)  y = Neg(a)")
    model.graph[0].replace_input_with(0, model.graph[1].outputs[0])
    with pytest.raises(PassError) as caught:
        normalize(_model(model))
    assert (caught.value.code, caught.value.where) == ("DS301", "sort")
    assert "cycle" in caught.value.because


@pytest.mark.filterwarnings("ignore")
def test_a_recurrent_module_of_torch_keeps_nothing_but_its_layers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)

    class Scorer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    example = torch.randn(2, 5, 3)
    exported = torch.onnx.export(
        Scorer().eval(), (example,), dynamo=True, verbose=False, dynamic_shapes={"x": {0: torch.export.Dim("batch")}}
    )
    source = _model(exported.model)
    normal, _ = normalize(source)
    ops = Counter(node.op_type for node in normal.graph.graph)
    assert ops == {"Transpose": 4, "LSTM": 2, "Reshape": 2, "Gather": 1, "Gemm": 1}
    assert all(len(node.inputs) == 4 for node in normal.graph.graph if node.op_type == "LSTM")
    feeds = {normal.inputs[0].name: example.numpy()}
    after, before = (next(iter(_run(model.to_bytes(), feeds)[1].values())) for model in (normal, source))
    np.testing.assert_allclose(after, before, rtol=1e-5)


def _idioms(torch):
    """What PyTorch's exporters write out at one opset or another."""
    nn, functional = torch.nn, torch.nn.functional

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
            self.layer_norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)
            self.instance_norm = nn.InstanceNorm2d(8, affine=True)

        def forward(self, x):
            x = functional.hardswish(self.norm(self.conv(functional.pad(x, (0, 1, 0, 1)))))
            gate = functional.hardsigmoid(functional.adaptive_avg_pool2d(x, 1))
            x = functional.mish(self.instance_norm(x)) * gate
            x = functional.gelu(self.layer_norm(functional.relu6(x).flatten(2).transpose(1, 2)))
            return functional.silu(self.linear(x)) * functional.gelu(x, approximate="tanh")

    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{"dynamo": True, "opset_version": 18}, {"opset_version": 9}, {"opset_version": 17}]
)
def test_what_torch_writes_out_becomes_operators(options, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    path, example = tmp_path / "m.onnx", torch.randn(2, 3, 8, 8)
    options = {"dynamo": False, "verbose": False, "external_data": False, "input_names": ["x"], **options}
    torch.onnx.export(_idioms(torch), (example,), path, **options)
    normal, _ = normalize(_model(ir.load(path)))
    _check(normal)
    ops = Counter(node.op_type for node in normal.graph.graph)
    assert {op: ops[op] for op in ("Gelu", "LayerNormalization", "HardSwish", "HardSigmoid", "Mish", "Clip")} == {
        **dict.fromkeys(("LayerNormalization", "HardSwish", "HardSigmoid", "Mish", "Clip"), 1),
        "Gelu": 2,
    }
    assert not set(ops) & {
        "Pad",
        "BatchNormalization",
        "Erf",
        "Pow",
        "Sqrt",
        "Softplus",
        "Identity",
        "ReduceMean",
        "Div",
    }
    feeds = {"x": example.numpy()}
    after, before = (next(iter(_run(model, feeds)[1].values())) for model in (normal.to_bytes(), str(path)))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert not any(record.changed for record in normalize(normal)[1])


def test_channels_last_between_convolutions_as_tensorflow_writes_it(graph):
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "w2": rng.standard_normal((4, 4, 3, 3)),
        "bias": rng.standard_normal(4),
        "f": rng.standard_normal((4, 5)),
        "zero": 0.0,
        "six": 6.0,
    }
    integers = {"p": np.int64([0, 1, 1, 0, 0, 1, 1, 0]), "mid": np.int64([1, 2])}
    to, back = "Transpose<perm = [0, 2, 3, 1]>", "Transpose<perm = [0, 3, 1, 2]>"
    body = (
        f"a = {back}(x)  b = Conv(a, w)  c = {to}(b)  d = Add(c, bias)  e = Max(d, zero)  g = Min(e, six)"
        f"  h = Pad(g, p)  i = {back}(h)  j = Conv(i, w2)  k = {to}(j)  l = Add(k, bias)  m = Add(l, g)"
        "  n = Relu(m)  o = ReduceMean<keepdims = 0>(n, mid)  y = MatMul(o, f)"
    )
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()} | integers
    source = _model(graph("float[N, 8, 8, 3] x", "float[N, 5] y", body, **arrays))
    normal, _ = normalize(source)
    assert [node.op_type for node in normal.graph.graph] == (
        ["Transpose", "Conv", "Clip", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    )
    feeds, before = _run(source.to_bytes())
    np.testing.assert_allclose(_run(normal.to_bytes(), feeds)[1]["y"], before["y"], atol=1e-4)
