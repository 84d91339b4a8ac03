"""The runner travels to devices by itself: what it compares, and what it needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsedge.bench import runner

INPUTS = [{"name": "x"}]


def golden(*outputs: np.ndarray, noise: float = 0.0) -> dict[str, np.ndarray]:
    arrays = {"input_0": np.zeros((len(outputs[0]), 1, 2), np.float32)}
    for i, output in enumerate(outputs):
        arrays |= {f"expected_{i}": output + np.asarray(noise).astype(output.dtype), f"float_{i}": output}
    return arrays


def replay(*outputs: np.ndarray):  # type: ignore[no-untyped-def]
    """A function that gives the outputs of one sample after the other."""
    samples = iter(range(len(outputs[0])))

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        sample = next(samples)
        return [output[sample] for output in outputs]

    return run


def passes(reference: dict[str, np.ndarray], *outputs: np.ndarray, recorded: list[float | None]) -> bool:
    found = runner.compare(reference, replay(*outputs), INPUTS)
    near = runner.close_enough(found["sqnr_db"], recorded, found["numbers"])
    return bool(near and runner.agrees(found["agreement"], [1.0] * len(outputs)))


ONES = np.ones((3, 1, 4), np.float32)


def test_it_needs_numpy_and_the_standard_library_only() -> None:
    tree = ast.parse(Path(runner.__file__).read_text())
    at_import = {name.partition(".")[0] for node in tree.body for name in _imported(node)}
    assert at_import - set(sys.stdlib_module_names) == {"numpy"}
    anywhere = {name.partition(".")[0] for node in ast.walk(tree) for name in _imported(node)}
    assert "dsedge" not in anywhere
    runtimes = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino", "trt_runtime"}
    assert anywhere - set(sys.stdlib_module_names) - {"numpy"} == runtimes


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_sqnr() -> None:
    x = np.array([3.0, -4.0])
    assert runner.sqnr(x, x) is None
    assert runner.sqnr(x, x * 1.1) == pytest.approx(20.0)
    assert runner.sqnr(x, np.zeros(2)) == pytest.approx(0.0)
    assert runner.sqnr(np.zeros(2), x) == -200.0


@pytest.mark.parametrize(
    ("worst", "recorded", "good"),
    [
        (None, None, True),
        (None, 30.0, True),
        (61.0, None, True),
        (30.0, None, False),
        (27.1, 30.0, True),
        (26.9, 30.0, False),
    ],
)
def test_close_enough(worst: float | None, recorded: float | None, good: bool) -> None:
    assert runner.close_enough([None, worst], [40.0, recorded], [10**6, 10**6]) is good


def test_the_worst_output_counts_over_all_samples() -> None:
    outputs = [ONES, ONES * 2]
    found = runner.compare(golden(*outputs, noise=0.5), replay(ONES * 1.01, ONES * 2.2), INPUTS)
    ratios, largest = found["sqnr_db"], found["max_abs_from_expected"]
    assert ratios == pytest.approx([40.0, 20.0], abs=0.01)
    assert largest == pytest.approx(0.49, abs=1e-6)
    assert runner.compare(golden(*outputs), replay(*outputs), INPUTS) == {
        "sqnr_db": [None, None],
        "identical": [True, True],
        "numbers": [ONES.size] * 2,
        "max_abs_from_expected": 0.0,
        "agreement": [1.0, 1.0],
    }


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_never_passes(bad: int, value: float) -> None:
    outputs = [ONES * 1.001, ONES * 1.001]
    outputs[bad] = ONES.copy()
    outputs[bad][1, 0, 2] = value
    assert not passes(golden(ONES, ONES), *outputs, recorded=[60.0, 60.0])


def test_class_ids_are_compared_too() -> None:
    ids = np.arange(6).reshape(3, 2)
    assert passes(golden(ids), ids, recorded=[None])
    assert not passes(golden(ids), ids[::-1], recorded=[None])


@pytest.mark.parametrize(
    ("mine", "identical"),
    [
        (np.arange(6).reshape(3, 2), True),
        (np.arange(6)[::-1].reshape(3, 2), False),
        (np.arange(3).reshape(3, 1), False),
    ],
)
def test_no_sqnr_means_identical_or_nothing_to_compare(mine: np.ndarray, identical: bool) -> None:
    found = runner.compare(golden(np.arange(6).reshape(3, 2)), replay(mine), INPUTS)
    assert (found["sqnr_db"], found["identical"]) == ([None], [identical])


def test_lengths_that_depend_on_the_data() -> None:
    """Only samples of one length are compared; a sample of another length is no number, and no agreement."""
    boxes = [np.ones((n, 4), np.float32) for n in (3, 2, 5)]
    near = [boxes[0] * np.float32(1.01), boxes[1][:1], boxes[2]]
    assert runner.sqnr_of_samples(boxes, near) == pytest.approx(44.26, abs=0.01)
    assert runner.agreement(boxes, near) == pytest.approx(2 / 3)
    assert runner.sqnr_of_samples(boxes[:1], boxes[1:2]) is None
    assert not runner.agrees([runner.agreement(boxes, boxes[1:] + boxes[:1])], [1.0])
    assert runner.agreement([np.zeros((0, 3), np.int64)], [np.zeros((0, 3), np.int64)]) == 1.0


def test_outputs_that_are_no_arrays() -> None:
    np.testing.assert_array_equal(runner.as_array([{"b": 2.0, "a": 1.0}, {"b": 4.0, "a": 3.0}]), [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(runner.as_array([np.ones(2), np.zeros((1, 1))]), [1.0, 1.0, 0.0])
    assert runner.as_array(None).size == runner.as_array([]).size == 0
    assert runner.as_array(np.float32(2)).shape == ()
    words = runner.as_array(np.array(["no", "yes"], object))
    assert (words.dtype.kind, runner.agreement([words], [words[::-1]])) == ("U", 0.0)


def test_times_are_taken_in_turns() -> None:
    calls: list[str] = []
    functions = [lambda feeds: calls.append("a"), lambda feeds: calls.append("b")]
    times = runner.time_alternately(functions, {}, 4, warmup=2)
    assert calls == ["a", "b"] * 6
    assert [len(t) for t in times] == [4, 4]
    assert all(t >= 0 for mine in times for t in mine)


@pytest.mark.parametrize(("numbers", "good"), [(8, True), (100, False)])
def test_few_numbers_say_little(numbers: int, good: bool) -> None:
    assert runner.close_enough([25.6], [32.7], [numbers]) is good


def test_what_is_wrong_with_the_input_is_one_line(bundle_folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", other=np.ones(3))
    line = [sys.executable, str(bundle_folder / "run.py"), "--input", str(tmp_path / "mine.npz")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run.py: ") and done.stderr.count("\n") == 1


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        (
            "x",
            np.zeros((1, 8, 12, 12)),
            "input 'x': the model takes float32 [N, 8, 12, 12], not float64 [1, 8, 12, 12]",
        ),
        ("x", np.zeros((1, 3, 9), np.float32), "not float32 [1, 3, 9]"),
        ("y", np.zeros((1, 3, 12, 12), np.float32), "holds the arrays ['y'], the model takes the inputs ['x']"),
    ],
)
def test_an_input_that_does_not_fit_is_one_line(
    bundle_folder: Path, tmp_path: Path, name: str, array: np.ndarray, said: str
) -> None:
    np.savez(tmp_path / "mine.npz", **{name: array})
    done = ran(bundle_folder, "--input", str(tmp_path / "mine.npz"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.startswith("run.py: ") and done.stderr.count("\n") == 1


def test_a_file_that_is_missing_is_named(bundle_folder: Path) -> None:
    (bundle_folder / "model.onnx").unlink()
    done = ran(bundle_folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "run.py: model.onnx is missing beside run.py: copy the whole bundle\n"


def test_a_model_that_takes_one_sample_is_run_on_each() -> None:
    """Outputs lie one behind the other along the axis of samples, along a new one where they have none."""
    inputs = [{"name": "x", "shape": [1, 2]}, {"name": "y", "shape": [1, 3]}]
    feeds = {"x": np.arange(6.0).reshape(3, 2), "y": np.ones((3, 3))}
    seen: list[tuple[int, ...]] = []

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        seen.append(feeds["x"].shape)
        return [feeds["x"] * 2, np.asarray(feeds["x"].sum())]

    double, total = runner.run_samples(run, feeds, inputs)
    np.testing.assert_array_equal(double, feeds["x"] * 2)
    np.testing.assert_array_equal(total, feeds["x"].sum(1))
    assert seen == [(1, 2)] * 3
    seen.clear()
    runner.run_samples(run, feeds, [inputs[0], {"name": "y", "shape": ["N", 3]}])
    runner.run_samples(run, {"x": np.ones((3, 2)), "y": np.ones((2, 3))}, inputs)
    runner.run_samples(run, {"x": np.ones((1, 2)), "y": np.ones((1, 3))}, inputs)
    assert seen == [(3, 2), (3, 2), (1, 2)]


def test_arrays_without_names_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(ValueError, match="holds one array without a name"):
        runner.read_inputs(str(tmp_path / "x.npy"), INPUTS)


@pytest.mark.parametrize(("load", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch, load: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"is missing: pip install {package}"):
        runner.LOADERS[load]("model")
