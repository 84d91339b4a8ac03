from __future__ import annotations

import sys

import pytest

from dsedge.errors import PassError
from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.normalize import FINISH, NORMALIZE, normalize

PASS = """
import onnx_ir as ir
from dsedge.passes import Pass

class RenameRelu(Pass):
    def call(self, model):
        for node in model.graph:
            node.name = "theirs"
        return ir.passes.PassResult(model, True)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with one entry point, as pip would leave it."""

    def install(value: str, source: str) -> None:
        (tmp_path / "third_party.py").write_text(source)
        info = tmp_path / "third_party-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[dsedge.passes]\nanything = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("third_party", None)


def test_names_come_from_files():
    assert discover()["fold-batchnorm"].__module__ == "dsedge.passes.fold_batchnorm"


def test_a_pass_of_another_package_runs_after_the_built_in_ones(installed, graph):
    installed("third_party:RenameRelu", PASS)
    assert list(discover())[-1] == "third-party"
    model = graph("float[2] x", "float[2] y", "y = Relu(x)")
    normal, records = normalize(Model(model, "m", "", "m.onnx", 20))
    assert [record.name for record in records] == [*NORMALIZE, "third-party", *FINISH]
    assert normal.graph.graph[0].name == "theirs"


@pytest.mark.parametrize(
    ("value", "source", "because"),
    [
        ("third_party:Missing", PASS, "AttributeError"),
        ("third_party:ir", PASS, "not a subclass"),
        (
            "third_party:RenameRelu",
            PASS.replace("def call", "name = 'sort'\n    def call"),
            "named 'sort' is there already",
        ),
    ],
)
def test_a_broken_package_is_named(installed, value, source, because):
    installed(value, source)
    with pytest.raises(PassError) as caught:
        discover()
    assert (caught.value.code, caught.value.where) == ("DS301", value)
    assert because in caught.value.because
