from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.verify import predictor

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

MODEL, WEIGHTS = "m/models/model.json", "m/data/weights/model_weights_config.json"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.register_buffer("scale", torch.full((4,), 2.0))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.conv(image)).mean((2, 3))
        return {"y": torch.einsum("bi,i->bi", features, self.scale)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Net]:
    torch.manual_seed(0)
    net, path = Net().eval(), tmp_path_factory.mktemp("pt2") / "m.pt2"
    batch = {"image": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(net, (torch.randn(2, 3, 8, 8),), dynamic_shapes=batch), path)
    return path, net


def test_an_exported_program(saved: tuple[Path, Net]) -> None:
    path, net = saved
    model = load(path)
    assert (model.name, model.source_opset, model.inputs[0].name) == ("m", 20, "image")
    assert isinstance(model.inputs[0].shape[0], str)
    x = torch.randn(5, 3, 8, 8)
    np.testing.assert_allclose(
        predictor(model.graph)({"image": x.numpy()})[0], net(x)["y"].detach().numpy(), rtol=1e-4, atol=1e-5
    )
    assert load(path, shapes={"image": (7, 3, 8, 8)}).inputs[0].shape == (7, 3, 8, 8)


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(10, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layer(self.words(ids), src_key_padding_mask=mask)


class Positive(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x[x > 0], lambda x: x[x <= 0], (x,)) * torch.tensor([2.0])


def test_guards_conditions_and_sizes_that_depend_on_data_are_read(tmp_path: Path) -> None:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    ids, mask = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.bool)
    program = torch.export.export(Encoder().eval(), (ids, mask), dynamic_shapes={"ids": axes, "mask": axes})
    torch.export.save(program, tmp_path / "m.pt2")
    assert "L['mask'].size()" in description(tmp_path / "m.pt2")
    assert [spec.dtype for spec in load(tmp_path / "m.pt2").inputs] == ["int64", "bool"]
    torch.export.save(torch.export.export(Positive(), (torch.ones(3),)), tmp_path / "m.pt2")
    assert "GreaterThan" in description(tmp_path / "m.pt2")
    load(tmp_path / "m.pt2")


def description(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(MODEL).decode()


def rewritten(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return target


def in_json(record: str, change: Callable[[Any], object]) -> Callable[[dict[str, bytes]], None]:
    def apply(records: dict[str, bytes]) -> None:
        content = json.loads(records[record])
        change(content)
        records[record] = json.dumps(content).encode()

    return apply


def graph(change: Callable[[Any], object]) -> Callable[[dict[str, bytes]], None]:
    return in_json(MODEL, lambda content: change(content["graph_module"]))


def put(container: Any, key: Any, value: Any) -> None:
    container[key] = value


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def first_size(module: Any) -> Any:
    return next(
        size["as_expr"]
        for value in module["graph"]["tensor_values"].values()
        for size in value["sizes"]
        if "as_expr" in size
    )


def spec(kind: str, context: str) -> str:
    return json.dumps([1, {"type": kind, "context": context, "children_spec": []}])


ATTACKS: dict[str, Callable[[Path], Callable[[dict[str, bytes]], None]]] = {
    "an expression that sympify evaluates": lambda mark: graph(
        lambda m: put(first_size(m), "expr_str", f"__import__('pathlib').Path({str(mark)!r}).touch()")
    ),
    "an expression that takes forever": lambda mark: graph(
        lambda m: put(first_size(m), "expr_str", "Pow(Integer(9), Pow(Integer(9), Integer(9)))")
    ),
    "an operator out of another module": lambda mark: graph(
        lambda m: put(m["graph"]["nodes"][0], "target", "torch.os.system")
    ),
    "an operator that maps files": lambda mark: graph(
        lambda m: put(m["graph"]["nodes"][0], "target", "torch.ops.aten.from_file.default")
    ),
    "a name that is code": lambda mark: graph(
        lambda m: put(m["graph"]["nodes"][0], "name", f"x = open({str(mark)!r}, 'w'); y")
    ),
    "a value that is code": lambda mark: graph(
        lambda m: put(m["graph"]["tensor_values"], "a.b", next(iter(m["graph"]["tensor_values"].values())))
    ),
    "a guard that is code": lambda mark: in_json(
        MODEL, lambda c: put(c, "guards_code", [f"open({str(mark)!r}, 'w')", "L['image'].size()[0] == 2"])
    ),
    "inputs that import a module": lambda mark: graph(
        lambda m: put(
            m["module_call_graph"][0]["signature"],
            "in_spec",
            spec(
                "collections.defaultdict", json.dumps({"default_factory_module": "this", "default_factory_name": "x"})
            ),
        )
    ),
    "inputs with an enum": lambda mark: graph(
        lambda m: put(
            m["module_call_graph"][0]["signature"],
            "in_spec",
            spec("builtins.dict", json.dumps([{"__enum__": True, "fqn": "this:x", "name": "y"}])),
        )
    ),
    "examples that are a pickle": lambda mark: (
        lambda r: put(r, "m/data/sample_inputs/model.pt", pickle.dumps(Evil(mark), protocol=2))
    ),
    "a weight that is a pickle": lambda mark: in_json(
        WEIGHTS, lambda c: next(iter(c["config"].values())).update(use_pickle=True)
    ),
    "a weight of another folder": lambda mark: in_json(
        WEIGHTS, lambda c: next(iter(c["config"].values())).update(path_name="../../models/model.json")
    ),
    "a weight larger than its record": lambda mark: in_json(
        WEIGHTS, lambda c: next(iter(c["config"].values()))["tensor_meta"].update(sizes=[{"as_int": 2**40}])
    ),
    "weights of the old format": lambda mark: (
        lambda r: put(r, "m/data/weights/model.pt", pickle.dumps(Evil(mark), protocol=2))
    ),
    "a compiled library": lambda mark: lambda r: put(r, "m/data/aotinductor/model/x.so", b"\x7fELF"),
    "a name in another case": lambda mark: lambda r: put(r, "m/models/MODEL.json", b"{}"),
    "a bomb": lambda mark: lambda r: put(r, "m/extra/zeros", bytes(2**20)),
    "no model": lambda mark: lambda r: r.pop("m/archive_format") and r.pop(WEIGHTS),
    "deep nesting": lambda mark: lambda r: put(r, MODEL, b"[" * 100_000 + b"]" * 100_000),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_files(saved: tuple[Path, Net], tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsedge.frontend.archive._ROOM", 2**16)
    mark = tmp_path / "mark"
    path = rewritten(saved[0], tmp_path / "m.pt2", ATTACKS[attack](mark))
    if attack == "a bomb":
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, record in records.items():
                archive.writestr(name, record)
        assert path.stat().st_size < len(content)
    with pytest.raises(LoadError) as caught:
        load(path)
    assert caught.value.code == "DS103", caught.value
    assert not mark.exists()


def test_damaged_files(saved: tuple[Path, Net], tmp_path: Path) -> None:
    content = saved[0].read_bytes()
    for length in (100, len(content) // 2, len(content) - 10):
        (tmp_path / "m.pt2").write_bytes(content[:length])
        with pytest.raises(LoadError) as caught:
            load(tmp_path / "m.pt2")
        assert caught.value.code == "DS102"
