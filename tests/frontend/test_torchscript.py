from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.verify import predictor

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image: torch.Tensor, shift: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.drop(self.norm(self.conv(image))).mean((2, 3))
        return (y if shift is None else y + shift), image


class Words(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids).sum(1)


class Noisy(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


class Loop(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.shape[0]):
            x = x + 1
        return x * 2 if bool(x.sum() > 10) else x


class Saves(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x


class Maps(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/passwd", False, 8) + x


def scripted(module: torch.nn.Module, folder: Path) -> Path:
    torch.jit.script(module).save(str(folder / "net.pt"))
    return folder / "net.pt"


def code(path: Path, **options: object) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        load(path, **options)  # type: ignore[arg-type]
    return caught.value.code, str(caught.value)


def test_with_shapes_and_with_examples(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net()
    path = scripted(net.train(), tmp_path)
    for options in (
        {"shapes": {"image": "batch,3,8,8", "shift": "batch,4"}},
        {"example_inputs": (torch.randn(2, 3, 8, 8), torch.randn(2, 4))},
    ):
        model = load(path, **options)  # type: ignore[arg-type]
        assert (model.name, model.source_opset) == ("net", 20)
        assert [str(spec) for spec in model.inputs] == [
            "image: float32[batch, 3, 8, 8] NCHW",
            "shift: float32[batch, 4]",
        ]
        image, shift = torch.randn(5, 3, 8, 8), torch.randn(5, 4)
        got = predictor(model.graph)({"image": image.numpy(), "shift": shift.numpy()})
        expected = net.eval()(image, shift)[0].detach().numpy()
        np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_integer_inputs(tmp_path: Path) -> None:
    model = load(scripted(Words(), tmp_path), shapes={"ids": "int64:1,7"})
    assert [str(spec) for spec in model.inputs] == ["ids: int64[1, 7]"]
    assert code(tmp_path / "net.pt", shapes={"ids": "1,7"})[0] == "DS107"


def test_the_graph_must_compute_what_the_program_does(tmp_path: Path) -> None:
    found, text = code(scripted(Noisy(), tmp_path), shapes={"x": (3,)})
    assert found == "DS107" and "differs by" in text
    module = Loop()
    model = load(scripted(module, tmp_path), shapes={"x": (3,)})
    for x in torch.randn(4, 3) * 10:
        np.testing.assert_allclose(predictor(model.graph)({"x": x.numpy()})[0], module(x).numpy(), rtol=1e-5)


def test_what_is_missing_or_wrong(tmp_path: Path) -> None:
    path = scripted(Net(), tmp_path)
    found, text = code(path)
    assert found == "DS107" and "--shape image=" in text
    assert code(path, shapes={"imag": (1, 3, 8, 8)})[0] == "DS145"
    assert "'shift'" in code(path, shapes={"image": (1, 3, 8, 8)})[1], "the exporter wants optional inputs too"
    assert code(path, shapes={"image": (1, 4, 8, 8), "shift": (1, 4)})[0] == "DS107"
    assert "a tensor is needed for each" in code(path, example_inputs={"image": torch.zeros(1, 3, 8, 8), "x": 1})[1]
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    assert code(path)[0] == "DS102"


@pytest.mark.parametrize("module", ["save", "from_file"])
def test_programs_that_reach_for_files_are_not_loaded(tmp_path: Path, module: str) -> None:
    mark = tmp_path / "mark"
    path = scripted(Saves(str(mark)) if module == "save" else Maps(), tmp_path)
    found, text = code(path, shapes={"x": (8,)})
    assert found == "DS103" and repr(module) in text
    assert not mark.exists()


def test_an_aliased_operator_is_found_too(tmp_path: Path) -> None:
    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = str(tmp_path / "mark")

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.path = state[0]
            self.training = state[1]
            torch.save(torch.zeros(1), state[0])

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return (self.path, self.training)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    path = scripted(Hidden(), tmp_path)
    assert code(path, shapes={"x": (8,)})[0] == "DS103"
    assert not (tmp_path / "mark").exists(), "loading alone would have run it"
    torch.jit.load(str(path))
    assert (tmp_path / "mark").exists(), "and this is what PyTorch does"
