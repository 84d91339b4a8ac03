"""The search for an artifact that passes: what goes back to float, for which reason, and where it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flow import samples, stopwatch
from graphs import Net, chain, concat

from dsedge import candidate, race
from dsedge.accuracy import Evaluate
from dsedge.backends import onnxruntime
from dsedge.backends.base import Artifact, Audit
from dsedge.candidate import Candidate
from dsedge.choose import Option
from dsedge.data import Feeds
from dsedge.model import Model
from dsedge.portfolio import Job, enter
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import INT8
from dsedge.search import TRIES
from dsedge.steps import Steps
from dsedge.target import Target, load_target

BOARD = load_target("raspberry-pi-5")


def searched(source: Model, folder: Path, backend: Any = onnxruntime, target: Target = BOARD) -> Candidate:
    return compiled(source, [batch.feeds for batch in samples(source, 8)], folder, backend, target)


def compiled(
    source: Model,
    data: list[Feeds],
    folder: Path,
    backend: Any = onnxruntime,
    target: Target = BOARD,
    evaluate: Evaluate | None = None,
    max_drop: float | None = None,
) -> Candidate:
    job = Job(target, INT8, False, data, evaluate, max_drop, None, "minmax", None, "float", False)
    entry = enter(Option(backend, source, []), job, folder / "one", Steps(None))
    return race.pick(race.race([entry], target), target, INT8)[1]


def suspicious(verdict: Callable[[QuantPlan], dict[str, str]]) -> Any:
    """The real backend, whose audit finds what a test wants it to find."""

    def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
        real = onnxruntime.audit(artifact, plan, target)
        return Audit(real.performed, real.summary, real.int8_ops, real.float_ops, real.unmatched | verdict(plan))

    return SimpleNamespace(**{name: getattr(onnxruntime, name) for name in onnxruntime.__all__} | {"audit": audit})


def int8_convolutions(plan: QuantPlan) -> list[str]:
    return [n.name for n in plan.nodes.values() if n.op_type == "Conv" and n.precision == "int8"]


def test_the_first_that_passes_is_taken(tmp_path: Path) -> None:
    found = searched(concat(), tmp_path)
    assert found.artifact.main == tmp_path / "one" / "try0" / "model.onnx"
    assert int8_convolutions(found.plan) == ["Conv_0", "Conv_2", "Conv_4", "Conv_7"]
    assert found.notes == []
    assert found.samples == 8
    assert len(found.outputs) == 8
    assert [gate.name for gate in found.gates if gate.passed is False] == []


def test_what_the_audit_rejects_goes_back_to_float(tmp_path: Path) -> None:
    """Conv_0 in float uncovers its input: the Q of what it wrote is now that of a float value."""
    backend = suspicious(lambda plan: {"Conv_0": "left in float"} if "Conv_0" in int8_convolutions(plan) else {})
    found = searched(concat(), tmp_path, backend)
    assert int8_convolutions(found.plan) == ["Conv_2", "Conv_4", "Conv_7"]
    assert found.plan.nodes["Conv_0"].reason == "left in float"
    assert found.notes == ["Conv_0 was returned to float: left in float"]
    assert found.artifact.main.parent.name == "try1"
    assert "x" not in found.plan.values
    assert found.fidelity.sqnr_db > 30


def test_values_that_lifting_uncovers_are_calibrated(tmp_path: Path) -> None:
    """With its head in float, nothing of the fused pair is in the first plan but its end."""
    net = Net(x=(1, 8, 12, 12))
    y = net.conv("x", 16)
    z = net.op("Relu", net.op("Add", net.conv(y, 16), y))
    net.channels[z] = 16
    model = net.model(net.conv(z, 8))
    backend = suspicious(lambda plan: {"Add_2": "left in float"} if plan.nodes["Add_2"].precision == "int8" else {})
    found = searched(model, tmp_path, backend)
    assert found.plan.nodes["Add_2"].precision == "float"
    assert "conv_1" in found.plan.values
    assert all(value.qparams is not None for value in found.plan.values.values())
    assert found.fidelity.sqnr_db > 25


def test_the_number_of_tries_is_bounded(tmp_path: Path) -> None:
    asked: list[int] = []

    def never(plan: QuantPlan) -> dict[str, str]:
        asked.append(1)
        return {"Conv_0": "left in float"}

    found = searched(chain(), tmp_path, suspicious(never))
    assert len(asked) <= TRIES
    assert found.artifact.main == tmp_path / "one" / "float" / "model.onnx"
    assert [gate.passed for gate in found.gates] == [False]
    assert not found.plan.quantized
    assert found.fidelity.sqnr_db is None


def test_a_float_artifact_is_never_called_int8(tmp_path: Path) -> None:
    """The audit rejects all that was planned in one try, so that nothing is left to plan."""
    found = searched(
        chain(), tmp_path, suspicious(lambda plan: dict.fromkeys(int8_convolutions(plan), "left in float"))
    )
    assert found.artifact.main.parent.name == "float"
    assert candidate.precision(found.plan) == "float32"
    assert found.audit.int8_ops == 0
    assert found.audit.float_ops == len(found.plan.nodes)
    assert {found.plan.nodes[name].reason for name in ("Conv_0", "Conv_2", "Conv_4")} == {"left in float"}


@pytest.mark.parametrize(("ratio", "shipped"), [(0.5, "try0"), (1.0, "try0"), (2.0, "float")])
def test_int8_that_is_slower_than_float_is_not_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, shipped: str
) -> None:
    monkeypatch.setattr(race, "measure", stopwatch({"onnxruntime float32": 1.0, "onnxruntime int8": ratio}))
    monkeypatch.setattr(Target, "matches_host", lambda self: (True, "a test"))
    found = searched(chain(), tmp_path, target=BOARD)
    assert found.artifact.main.parent.name == shipped
    gate = next(gate for gate in found.gates if gate.name == "latency_vs_float")
    assert (gate.value, gate.passed) == (ratio, ratio <= 1.03)
    assert [row.precision for row in found.latency] == ["float32", "int8"], "the evidence stays"
    assert bool(found.notes) == (shipped == "float")


def test_a_model_of_a_few_bytes_is_not_failed_for_its_size(tmp_path: Path) -> None:
    """The nodes of the quantizers take some kilobytes, whatever the model has."""
    net = Net(x=(1, 8, 12, 12))
    found = searched(net.model(net.conv(net.conv("x", 8, 1, act="Relu"), 8, 1)), tmp_path)
    assert found.plan.quantized
    assert [gate.name for gate in found.gates if gate.passed is False] == []


def test_samples_are_taken_as_they_are(tmp_path: Path) -> None:
    """Ranges come from all samples, not only from those that are compared."""
    source = chain()
    feeds = [batch.feeds for batch in samples(source, 8)]
    feeds[7]["x"] = feeds[7]["x"] * np.float32(50)
    found = compiled(source, feeds, tmp_path, onnxruntime, BOARD)
    low, high = found.plan.values["x"].range
    assert (low, high) == (float(feeds[7]["x"].min()), float(feeds[7]["x"].max()))


def branches() -> tuple[Model, list[dict[str, np.ndarray]]]:
    """A wide branch and three narrow ones. A great channel, which no weight reads, takes the codes of each input."""
    widths = (512, 16, 16, 16)
    net = Net(**{f"x{i}": (1, width, 4, 4) for i, width in enumerate(widths)})
    ends = []
    for i, width in enumerate(widths):
        weight = net.weight(16, width, 1, 1)
        array = net.weights[-1]
        values = np.frombuffer(array.raw_data, np.float32).reshape(16, width, 1, 1).copy()
        values[:, 0] = 0
        array.raw_data = values.tobytes()
        ends.append(net.op("Conv", f"x{i}", weight))
    model = net.model(net.op("Concat", *ends, axis=1))
    feeds = [batch.feeds for batch in samples(model, 8)]
    for feed in feeds:
        for name, array in feed.items():
            array[:, 0] *= 60 if name == "x0" else 50
    return model, feeds


def gated(folder: Path, max_drop: float) -> Candidate:
    source, feeds = branches()
    return compiled(source, feeds, folder, evaluate=(feeds, "sqnr"), max_drop=max_drop)


def test_what_is_cheap_to_have_in_float_is_lifted_first(tmp_path: Path) -> None:
    """The wide branch gains more than any other, at 32 times the bytes: without it the gate passes too."""
    found = gated(tmp_path, 20.0)
    assert found.metric is not None and 11 < found.metric.drop < 20
    assert int8_convolutions(found.plan) == ["Conv_0"]
    floats = (tmp_path / "one" / "float" / "model.onnx").stat().st_size
    assert found.artifact.bytes < floats / 2


def test_the_tries_that_were_made_are_counted(tmp_path: Path) -> None:
    found = gated(tmp_path, 0.001)
    assert len(list(tmp_path.glob("one/try*"))) == 3
    assert found.notes[-1] == "none of 3 tries in INT8 passed its gates (sqnr_drop): this is the float one"
