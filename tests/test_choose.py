"""Which runtime is taken for a model, and what is said about those that are passed over."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from graphs import Net, chain

from dsedge.backends import onnxruntime
from dsedge.backends.base import Finding
from dsedge.choose import choose_options, findings, passed_over, usable_backends
from dsedge.errors import CheckError, LoadError
from dsedge.model import Model
from dsedge.quant.precision import parse_request
from dsedge.target import Target, load_target

BOARD = load_target("raspberry-pi-5")


def other(*, unsupported: list[Finding] | None = None, **facts: Any) -> Any:
    """The real backend under another name, with other facts in its contract."""

    def contract(target: Target) -> Any:
        return replace(onnxruntime.contract(target), runtime="other", **facts)

    names = {name: getattr(onnxruntime, name) for name in onnxruntime.__all__}
    changed = {"NAME": "other", "contract": contract, "unsupported": lambda model: unsupported or []}
    return SimpleNamespace(**names | changed)


def tokens() -> Model:
    net = Net(x=("N", "seq"))
    return net.model(net.op("Relu", "x"))


def test_the_preferred_one_that_can() -> None:
    (option,), refused = choose_options([other(static=True), onnxruntime], chain(), BOARD, every=False)
    assert option.backend.NAME == "other" and option.model.inputs[0].shape == (1, 8, 12, 12)
    assert option.notes == ["other wants fixed shapes: the open batch axis of 'x' is 1"] and not refused


def test_every_one_that_can_with_the_model_as_it_wants_it() -> None:
    backends = [other(static=True), other(unsupported=[Finding("Conv_0", "Conv", "no kernel")]), onnxruntime]
    options, refused = choose_options(backends, chain(), BOARD, every=True)
    assert [option.backend for option in options] == [backends[0], onnxruntime]
    assert [option.model.inputs[0].shape[0] for option in options] == [1, "N"]
    assert [(failed.backend, failed.error.code) for failed in refused] == [(backends[1], "DS201")]


@pytest.mark.parametrize(("here", "ranked"), [(True, False), (False, True)])
def test_what_cannot_be_measured_is_ranked_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, here: bool, ranked: bool
) -> None:
    monkeypatch.setattr(Target, "matches_host", lambda self: (here, "a test"))
    notes = [note for note in usable_backends(BOARD, "auto")[1] if "ranked" in note]
    assert len(notes) == ranked and all("onnxruntime, litert" in note for note in notes)
    assert usable_backends(BOARD, "onnxruntime")[1] == []


@pytest.mark.parametrize(
    ("first", "model", "options", "word"),
    [
        (other(unsupported=[Finding("Relu_0", "Relu", "no kernel")]), tokens, {}, "Relu 'Relu_0': no kernel"),
        (other(static=True), tokens, {}, "x: float32[N, seq]"),
        (other(lacks={"fp16": "none"}), chain, {"request": parse_request("fp16")}, "no fp16"),
        (other(opset=(13, 15)), chain, {"io_dtype": "int8"}, "no inputs and outputs of int8 codes"),
    ],
)
def test_one_that_cannot_is_passed_over_and_it_is_said(first: Any, model: Any, options: Any, word: str) -> None:
    source = model()
    second = other(integer_io=True) if "io_dtype" in options else onnxruntime
    (option,), refused = choose_options([first, second], source, BOARD, **options, every=False)
    assert option.backend is second and option.model is source
    notes = passed_over(refused)
    assert len(notes) == 1 and notes[0].startswith("other was passed over") and word in notes[0]


def test_when_none_can_the_preferred_one_says_why() -> None:
    refusing = other(unsupported=[Finding("Relu_0", "Relu", "no kernel")])
    with pytest.raises(CheckError) as refused:
        choose_options([refusing, other(static=True)], tokens(), BOARD, every=True)
    assert refused.value.code == "DS201"
    with pytest.raises(LoadError) as open_axis:
        choose_options([other(static=True), refusing], tokens(), BOARD, every=False)
    assert open_axis.value.code == "DS106"


def test_check_tells_open_axes_as_a_finding() -> None:
    assert findings(chain(), [other(static=True)], BOARD) == {"other": []}
    found = findings(tokens(), [other(static=True), onnxruntime], BOARD)
    assert found["onnxruntime"] == [] and "--shape x=1,128" in found["other"][0].reason
