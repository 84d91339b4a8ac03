"""Which open axes are the batch, and which are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from graphs import Net, chain, lstm

from dsedge.errors import LoadError
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.streaming import with_states


def model(**inputs: Sequence[int | str]) -> Model:
    net = Net(**inputs)
    return net.model(*(net.op("Relu", name) for name in inputs))


def shapes(model: Model) -> dict[str, tuple[object, ...] | None]:
    return {spec.name: spec.shape for spec in model.inputs}


def test_the_batch_is_one_and_all_behind_it_is_known() -> None:
    original = chain()
    fixed, notes = with_static_axes(original, "litert")
    assert shapes(fixed) == {"x": (1, 8, 12, 12)}
    assert shapes(original) == {"x": ("N", 8, 12, 12)}
    assert notes == ["litert wants fixed shapes: the open batch axis of 'x' is 1"]
    graph = normalize(fixed)[0].graph.graph
    values = [out for node in graph for out in node.outputs]
    assert all(v.shape is not None and all(isinstance(d, int) for d in v.shape) for v in values)


def test_what_is_fixed_already_stays() -> None:
    fixed, _ = with_static_axes(chain(), "litert")
    assert with_static_axes(fixed, "litert") == (fixed, [])


def test_a_batch_in_another_place() -> None:
    """Time comes first, so the batch is axis 1; a state has it there too, beside a leading 1."""
    fixed, _ = with_static_axes(model(x=("N", 4, 3), h=(1, "N", 8)), "litert")
    assert shapes(fixed) == {"x": (1, 4, 3), "h": (1, 1, 8)}
    recurrent = lstm()
    layout = recurrent.inputs[0].layout
    assert layout is not None and recurrent.inputs[0].shape is not None
    if not isinstance(recurrent.inputs[0].shape[layout.index("T")], int):
        with pytest.raises(LoadError):
            with_static_axes(recurrent, "litert")


def test_states_stay_consistent() -> None:
    net = Net(x=("N", 4), h=("N", 4))
    streaming = net.model(net.op("Relu", "x"), net.op("Add", "x", "h"))
    fixed, _ = with_static_axes(with_states(streaming, {"h": "add_1"}), "litert")
    assert dict(fixed.states) == {"h": "add_1"}
    assert [spec.shape for spec in normalize(fixed)[0].outputs] == [(1, 4), (1, 4)]


@pytest.mark.parametrize(
    ("inputs", "hint"),
    [
        ({"ids": ("N", "seq")}, "--shape ids=1,128"),
        ({"ids": ("N", "seq"), "mask": ("N", "seq")}, "--shape ids=1,128 --shape mask=1,128"),
        ({"positions": ("seq",), "ids": ("N", "seq")}, "--shape positions=128 --shape ids=1,128"),
        ({"image": ("N", 3, "H", "W")}, "--shape image=1,3,128,128"),
    ],
)
def test_any_other_open_axis_is_refused(inputs: dict[str, Sequence[int | str]], hint: str) -> None:
    with pytest.raises(LoadError) as caught:
        with_static_axes(model(**inputs), "litert")
    assert caught.value.code == "DS106"
    assert caught.value.hint is not None and caught.value.hint.endswith(hint)


def test_where_ranges_will_do_they_are_told() -> None:
    with pytest.raises(LoadError) as caught:
        with_static_axes(model(ids=("N", "seq"), image=(2, "C", 8)), "tensorrt", ranges=True)
    assert "--shape ids=1,128 --shape image=2,128,8; or ranges" in str(caught.value.hint)
    assert str(caught.value.hint).endswith("--shape ids=1:4:8,16:32:128 --shape image=2,16:32:128,8")
