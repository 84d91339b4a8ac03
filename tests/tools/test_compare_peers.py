from __future__ import annotations

import json
import sys
from pathlib import Path

import compare_peers
import fidelity
import numpy as np
import pytest
from cases import RECIPES, Goal, prepare
from fidelity import Fidelity
from verdict import Row, verdict

NO_GOAL = Goal()
TIMES = np.tile([1.0, 1.1, 0.9], 20)


def row(name: str, ms: float, sqnr_db: float = 30.0, agreement: float = 1.0, **cost: float) -> Row:
    measured = Fidelity({"boxes": sqnr_db, "scores": 35.0}, {"class": agreement})
    return Row(name, Path(), times=TIMES * ms, fidelity=measured, **{"seconds": 1.0, "peak_rss_mb": 100.0, **cost})


def claims(ours: Row, *peers: Row, goal: Goal = NO_GOAL) -> list[bool]:
    return [holds for _, holds, _ in verdict([row("float", 4.0), ours, *peers], goal)]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (row("dsedge", 1.0, seconds=0.5, peak_rss_mb=50.0), [True, True, True, True, True]),
        (row("dsedge", 1.01, seconds=0.5, peak_rss_mb=50.0), [True, True, True, True, True]),
        (row("dsedge", 1.05, sqnr_db=29.0), [True, False, False, False, False]),
        (row("dsedge", 5.0, seconds=0.5, peak_rss_mb=50.0), [False, False, True, True, True]),
    ],
)
def test_verdict(ours: Row, expected: list[bool]) -> None:
    slow_but_exact = row("slow", 2.0, sqnr_db=50.0, seconds=3.0, peak_rss_mb=300.0)
    failed = Row("failed", Path(), error="no such package")
    assert claims(ours, row("fast", 1.0), slow_but_exact, failed) == expected


def test_sqnr_is_compared_with_the_best_of_the_fast_ones() -> None:
    ours = row("dsedge", 1.0, sqnr_db=31.0)
    assert claims(ours, row("fast", 1.0), row("as fast", 1.03, sqnr_db=32.0))[2] is False
    assert claims(ours, row("fast", 1.0), row("slower", 1.2, sqnr_db=32.0))[2] is True


def test_a_peer_that_breaks_the_outputs_is_no_measure() -> None:
    ours, sound = row("dsedge", 1.0), row("sound", 1.2)
    assert claims(ours, row("noise", 0.5, sqnr_db=4.9), row("other classes", 0.5, agreement=0.89), sound)[1] is True
    assert claims(ours, row("fair", 0.5, sqnr_db=5.1, agreement=0.91), sound)[1] is False
    assert claims(ours, row("noise", 0.5, sqnr_db=4.9)) == [True, True]
    assert claims(row("dsedge", 1.0, sqnr_db=4.0), row("noise", 0.5, sqnr_db=4.9)) == [True, False]


def test_the_goal_of_a_model() -> None:
    goal = Goal(ratio=2.0, sqnr_db=24.0, agreement=("class", 0.99), above_peers="boxes")
    peer = row("slow", 3.0, sqnr_db=29.0)
    assert claims(row("dsedge", 1.9), peer, goal=goal)[1:4] == [True, True, True]
    assert claims(row("dsedge", 2.1, sqnr_db=23.9, agreement=0.99), peer, goal=goal)[1:4] == [False, False, False]
    assert claims(row("dsedge", 1.9), peer, goal=goal)[6] is True
    assert claims(row("dsedge", 1.9, sqnr_db=28.0), peer, goal=goal)[6] is False


def test_nothing_to_compare_with_is_no_pass() -> None:
    assert claims(row("dsedge", 1.0), Row("peer", Path(), error="no such package")) == [False]
    assert claims(Row("dsedge", Path(), error="DS999"), row("peer", 1.0)) == [False]


def test_padding_does_not_count() -> None:
    feeds = [{"attention_mask": np.array([[1, 1, 0]])}]
    hidden = np.ones((1, 3, 4), np.float32)
    broken = hidden.copy()
    broken[:, 2] = 100
    measured = fidelity.tokens(feeds, {"hidden": [hidden]}, {"hidden": [broken]})
    assert measured.worst_db == np.inf
    assert fidelity.all_outputs(feeds, {"hidden": [hidden]}, {"hidden": [broken]}).worst_db < 0


def test_agreement_of_detections() -> None:
    """Two objects: the class of one is another, its box is missed too; both are counted from both sides."""
    image = np.zeros((1, 4, 7), np.float32)
    image[0, :2] = [[50, 50, 20, 20, 1, 0.9, 0.1], [150, 50, 20, 20, 1, 0.2, 0.8]]
    other = image.copy()
    other[0, 0, 0] += 2
    assert fidelity.detections([], {"p": [image]}, {"p": [other]}).agreement == {"class": 1.0, "detection": 1.0}
    other[0, 1, 5:] = 0.9, 0.1
    measured = fidelity.detections([], {"p": [image]}, {"p": [other]})
    assert measured.agreement == {"class": 0.5, "detection": 0.5}
    assert measured.worst_db == measured.sqnr_db["scores"]
    other[0, 0, 0] += 40
    assert fidelity.detections([], {"p": [image]}, {"p": [other]}).agreement["detection"] == 0.0


def test_a_peer_that_fails_is_a_row_and_a_model_in_the_file_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # xdist sets it, and the table would fold
    variants = {"dsedge": ("dsedge", {}), "peer": ("onnxruntime static", {"method": "none"})}
    recipe = RECIPES["digits_cnn"]
    monkeypatch.setitem(RECIPES, "digits_cnn", type(recipe)(variants, export=None))
    results = tmp_path / "results.json"
    command = ["", "--models", "digits_cnn", "--json", str(results), "--repeats", "1", "--seconds", "0.1"]
    monkeypatch.setattr(sys, "argv", command)
    assert compare_peers.main() == 1
    _, ours, peer = json.loads(results.read_text())["digits_cnn"]["rows"]
    assert peer["error"] == "KeyError: 'none'"
    assert ours["error"] is None
    assert ours["sqnr_db"]["logits"] > 30
    assert "failed: KeyError" in capsys.readouterr().out
    assert compare_peers.main() == 1
    assert "digits_cnn" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.samples is None])
def test_shipped_models_have_samples_that_fit(name: str, tmp_path: Path) -> None:
    import onnxruntime

    case = prepare(name, tmp_path, tmp_path, count=2)
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    reference = {
        value.name: [array]
        for value, array in zip(session.get_outputs(), session.run(None, case.held_out[0]), strict=True)
    }
    assert RECIPES[name].compare(case.held_out[:1], reference, reference).worst_db == np.inf


def test_on_all_runtimes_the_fastest_float_model_is_the_measure() -> None:
    floats = [row("float, onnxruntime", 3.0), row("float, litert", 2.0), Row("float, openvino", Path(), error="DS501")]
    rows = compare_peers.fastest_float_first([*floats, row("dsedge", 1.0), row("litert: peer", 1.0)])
    assert [row.name for row in rows] == ["float, litert", "dsedge", "litert: peer"]
