"""Which runtime is taken for a model, and what is said about those that are passed over."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from graphs import Net, chain

from dsedge import choose
from dsedge.backends import base, onnxruntime
from dsedge.backends.base import Finding
from dsedge.choose import choose_options, findings, missing_runtimes, passed_over, ranked, usable_backends
from dsedge.errors import BuildError, CheckError, LoadError
from dsedge.model import Model
from dsedge.quant.precision import parse_request
from dsedge.target import Runtime, Target, load_target

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


@pytest.mark.parametrize(("here", "said"), [(True, False), (False, True)])
def test_what_cannot_be_measured_is_ranked_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, here: bool, said: bool
) -> None:
    monkeypatch.setattr(Target, "matches_host", lambda self: (here, "a test"))
    notes = ranked(BOARD, "auto")
    assert len(notes) == said and all("onnxruntime, litert" in note for note in notes)
    assert ranked(BOARD, "onnxruntime") == usable_backends(BOARD, "onnxruntime")[1] == []


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


def test_a_refusal_names_the_runtime_that_can() -> None:
    refusing = other(unsupported=[Finding("Relu_0", "Relu", "no kernel")])
    with pytest.raises(CheckError) as caught:
        choose_options([refusing], chain(), BOARD, every=True)
    assert str(caught.value.hint).endswith("or give --runtime onnxruntime, which can")
    with pytest.raises(CheckError) as hopeless:
        choose_options([refusing], chain(), board("other"), every=True)
    assert "--runtime" not in str(hopeless.value.hint)


def test_check_tells_open_axes_as_a_finding() -> None:
    assert findings(chain(), [other(static=True)], BOARD) == {"other": []}
    found = findings(tokens(), [other(static=True), onnxruntime], BOARD)
    assert found["onnxruntime"] == [] and "--shape x=1,128" in found["other"][0].reason


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> str:
    """A runtime with a backend, which is not installed: the first one of the board."""
    absent = other()
    absent.NAME, absent.EXTRA, absent.version = "absent", "absent", lambda: None
    real = base.load_backend
    monkeypatch.setattr(base, "load_backend", lambda name: absent if name == "absent" else real(name))
    monkeypatch.setattr(choose, "load_backend", base.load_backend)
    monkeypatch.setattr(choose, "available", lambda: {"absent": "", "onnxruntime": ""})
    return "pip install 'dsedge[absent]'"


def board(*runtimes: str) -> Target:
    return BOARD.model_copy(update={"runtimes": tuple(Runtime(name=name, version=None) for name in runtimes)})


def test_a_refusal_names_the_runtime_that_is_not_installed(missing: str) -> None:
    assert missing_runtimes(board("absent", "onnxruntime", "c")) == {
        "c": "has no backend yet",
        "absent": f"is not installed ({missing})",
    }
    backends, said = usable_backends(board("absent", "onnxruntime"), "auto")
    with pytest.raises(LoadError) as caught:
        choose_options(backends, chain(), BOARD, io_dtype="uint8", every=False, missing=said)
    assert caught.value.code == "DS146"
    assert f"prefers absent, which is not installed ({missing})" in str(caught.value.because)


def test_runtimes_that_are_not_installed_are_no_missing_backends(missing: str) -> None:
    with pytest.raises(BuildError) as caught:
        usable_backends(board("absent", "c"), "auto")
    assert (caught.value.code, caught.value.hint) == ("DS402", missing)
    assert caught.value.what.endswith("runs on absent, which is not installed")
    with pytest.raises(BuildError) as asked:
        usable_backends(board("absent", "onnxruntime"), "absent")
    assert (asked.value.code, asked.value.hint) == ("DS402", missing)
