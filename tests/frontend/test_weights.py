from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.verify import predictor

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("onnxscript")

FACTORY = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

def with_examples():
    return net(), (torch.zeros(1, 3, 8, 8),)

def broken():
    raise RuntimeError("no such luck")

def nothing():
    return 3
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A trained module; its factory is importable from the current folder only."""
    (tmp_path / "dsedge_test_factory.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "dsedge_test_factory", raising=False)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    module(torch.randn(16, 3, 8, 8))
    return module.eval()


def same(model: Any, net: torch.nn.Module) -> None:
    x = torch.randn(1, 3, 8, 8)
    (got,) = predictor(model.graph)({model.inputs[0].name: x.numpy()})
    np.testing.assert_allclose(got, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def code(path: Path, **options: Any) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        load(path, **options)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("form", ["plain", "wrapped", "parallel", "old", "safetensors"])
def test_weights_and_a_factory(net: torch.nn.Module, tmp_path: Path, form: str) -> None:
    state, path = net.state_dict(), tmp_path / "w.pt"
    if form == "wrapped":
        torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif form == "parallel":
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
    elif form == "safetensors":
        path = tmp_path / "w.safetensors"
        safetensors.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form != "old")
    model = load(path, factory="dsedge_test_factory:with_examples")
    assert (model.name, model.source) == ("w", f"{path} in dsedge_test_factory:with_examples")
    same(model, net)
    assert str(tmp_path) not in sys.path


def test_examples_come_from_shapes_or_the_caller(net: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(net.state_dict(), path)
    model = load(path, factory="dsedge_test_factory:net", shapes={"": "n,3,8,8"})
    assert model.inputs[0].shape == ("n", 3, 8, 8)
    same(model, net)
    import dsedge_test_factory

    model = load(path, factory=dsedge_test_factory.net, example_inputs=torch.zeros(1, 3, 9, 9))
    assert model.inputs[0].shape == (1, 3, 9, 9)
    found, text = code(path, factory="dsedge_test_factory:net")
    assert found == "DS107" and "--shape" in text


def test_weights_that_do_not_fit(net: torch.nn.Module, tmp_path: Path) -> None:
    state, path = net.state_dict(), tmp_path / "w.pt"
    state["0.weight"] = torch.zeros(5, 3, 3, 3)
    state["head.weight"] = state.pop("1.bias")
    torch.save(state, path)
    found, text = code(path, factory="dsedge_test_factory:with_examples")
    assert found == "DS107"
    for words in (
        "1 missing: 1.bias",
        "1 unexpected: head.weight",
        "0.weight is [5, 3, 3, 3] in the file, [4, 3, 3, 3]",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("dsedge_test_factory", "package.module:function"),
        ("dsedge_test_factory:nett", "did you mean 'net'?"),
        ("dsedge_test_factory:torch", "has no function"),
        ("dsedge_test_nowhere:net", "No module named 'dsedge_test_nowhere'"),
        ("dsedge_test_factory:broken", "RuntimeError: no such luck"),
        ("dsedge_test_factory:nothing", "returns a int"),
        ("../dsedge_test_factory:net", "package.module:function"),
    ],
)
def test_factories_that_are_none(net: torch.nn.Module, tmp_path: Path, factory: str, words: str) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pt")
    found, text = code(tmp_path / "w.pt", factory=factory)
    assert found == "DS145" and words in text


def test_files_that_hold_more_than_weights(net: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    for zipped in (True, False):
        torch.save(net, path, _use_new_zipfile_serialization=zipped)
        assert code(path, factory="dsedge_test_factory:with_examples")[0] == "DS103"
    torch.save([1, 2], path)
    assert code(path, factory="dsedge_test_factory:with_examples")[0] == "DS103"
    safetensors.save_file(net.state_dict(), tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:-8])
    assert code(tmp_path / "w.safetensors", factory="dsedge_test_factory:with_examples")[0] == "DS102"
