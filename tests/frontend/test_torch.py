from __future__ import annotations

import numpy as np
import pytest
from flow import run

from dsedge.data import Batch
from dsedge.errors import LoadError
from dsedge.frontend import load

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        y = self.drop(torch.relu(self.norm(self.conv(image)))).mean((2, 3))
        return y if shift is None else y + shift


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().train()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_module_is_exported_as_it_predicts(net: Net, batch: int) -> None:
    x = torch.randn(batch, 3, 10, 10)
    model = load(net, example_inputs=x)
    assert net.training, "the module is left in the mode it was in"
    assert (model.name, model.source, model.source_opset) == ("Net", "torch module Net", 20)
    (spec,) = model.inputs
    assert (spec.name, spec.dtype, spec.layout) == ("image", "float32", "NCHW")
    assert spec.shape == (("batch" if batch > 1 else 1), 3, 10, 10)
    net.eval()
    for samples in {batch, 1 if batch == 1 else 5}:
        x = torch.randn(samples, 3, 10, 10)
        (got,) = run(model.graph, [Batch({"image": x.numpy()}, 1, None)])
        np.testing.assert_allclose(got, net(x).detach().numpy().ravel(), rtol=1e-4, atol=1e-5)


def test_the_fingerprint_is_that_of_the_weights() -> None:
    layer, x = torch.nn.Linear(4, 2), torch.zeros(1, 4)
    first = load(layer, example_inputs=x).fingerprint
    assert load(layer, example_inputs=x).fingerprint == first
    with torch.no_grad():
        layer.bias += 1
    assert load(layer, example_inputs=x).fingerprint != first


def test_examples_as_a_tuple_and_as_a_dict(net: Net) -> None:
    x, shift = torch.randn(2, 3, 10, 10), torch.randn(2, 8)
    for examples in ((x, shift), {"image": x, "shift": shift}):
        model = load(net, example_inputs=examples)
        assert [spec.name for spec in model.inputs] == ["image", "shift"]
        assert {spec.shape[0] for spec in model.inputs if spec.shape} == {"batch"}


def test_without_examples(net: Net) -> None:
    with pytest.raises(LoadError) as caught:
        load(net)
    assert caught.value.code == "DS107"


def test_shapes_in_the_place_of_examples(net: Net) -> None:
    model = load(net, shapes={"shift": "n,8", "image": ("n", 3, "side", "side")})
    assert [str(spec) for spec in model.inputs] == ["image: float32[n, 3, side, side] NCHW", "shift: float32[n, 8]"]
    net.eval()
    image, shift = torch.randn(3, 3, 12, 12), torch.randn(3, 8)
    (got,) = run(model.graph, [Batch({"image": image.numpy(), "shift": shift.numpy()}, 1, None)])
    np.testing.assert_allclose(got, net(image, shift).detach().numpy().ravel(), rtol=1e-4, atol=1e-5)
    assert [spec.shape for spec in load(net, shapes={"image": "1x3x10x10"}).inputs] == [(1, 3, 10, 10)]
    for code, options in (
        ("DS107", {"shapes": {"shift": (1, 8)}}),
        ("DS145", {"shapes": {"imag": (1, 8)}}),
        ("DS145", {"shapes": {"image": (1, 3, 10, 10)}, "example_inputs": image}),
    ):
        with pytest.raises(LoadError) as caught:
            load(net, **options)  # type: ignore[arg-type]
        assert caught.value.code == code


def test_a_module_that_cannot_be_exported(net: Net, capsys: pytest.CaptureFixture[str]) -> None:
    net.forward = lambda image: image if bool(image.sum() > 0) else -image  # type: ignore[method-assign]
    with pytest.raises(LoadError) as caught:
        load(net, example_inputs=torch.randn(1, 3, 10, 10))
    assert caught.value.code == "DS107"
    assert caught.value.where == "Net"
    assert caught.value.because
    assert net.training
    assert capsys.readouterr().out == ""
