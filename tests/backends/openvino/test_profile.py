"""The profile: every operator that runs has a cost, and says which nodes it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow import quantized, samples
from graphs import chain, residual

pytest.importorskip("openvino")

from dsedge.backends import openvino as backend
from dsedge.backends.base import Cost, profile
from dsedge.backends.openvino.audit import executed
from dsedge.model import Model
from dsedge.target import load_target

CONTRACT = backend.contract(load_target("pos-x86"))


def profiled(model: Model, folder: Path) -> list[Cost]:
    return profile(backend, backend.build(quantized(model, CONTRACT).model, folder), samples(model, 1)[0].feeds, 1)


def test_every_operator_that_runs_has_a_cost_the_most_first(tmp_path: Path) -> None:
    found = profiled(chain(), tmp_path)
    assert [cost.ms for cost in found] == sorted((cost.ms for cost in found), reverse=True)
    assert found[0].ms > 0
    kinds = [operator.kind for operator in executed(tmp_path / "model.xml")]
    for kind in ("Convolution", "Reduce", "FullyConnected"):
        ran = [cost for cost in found if cost.op == kind]
        assert len(ran) == kinds.count(kind) > 0 and all(cost.ms > 0 for cost in ran)
    assert not {"Const", "Input", "Output"} & {cost.op for cost in found}
    assert len({cost.node for cost in found}) == len(found)


def test_an_operator_names_all_that_is_in_it(tmp_path: Path) -> None:
    """Two convolutions of each block hold a sum or an activation."""
    found = {name: cost for cost in profiled(residual(), tmp_path) for name in cost.nodes}
    assert found["Conv_4"] is found["Add_5"] and found["relu_6"] is found["Conv_4"]
    assert found["Conv_2"] is not found["Conv_4"]
    assert found["Conv_2"].node in found["Conv_4"].reads
