"""The command line itself: help, usage, errors, exit codes, streams."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import TensorProto, helper

import dsedge.target
from dsedge.cli import main
from dsedge.cli.output import progress

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "models" / "digits_cnn"
HEAVY = "numpy onnx onnx_ir onnxruntime pydantic torch rich.progress".split()

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `main` in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dsedge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return call


def foreign(path: Path, *ops: str) -> Path:
    """A model whose operators no runtime has."""
    names = [f"v{i}" for i in range(len(ops) + 1)]
    nodes = [
        helper.make_node(op, [names[i]], [names[i + 1]], domain="mine", name=f"node_{op}") for i, op in enumerate(ops)
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import sys
sys.argv = ["dsedge", "--help"]
from dsedge.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert not set({HEAVY!r}) & set(sys.modules), set({HEAVY!r}) & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in "compile check explain inspect verify targets passes doctor".split():
        assert verb in done.stdout


def test_every_option_has_a_line_of_help(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("compile", "--help")
    assert code == 0
    for option in "--target --calib --eval --metric --max-drop --recipe --runtime --output --force --json".split():
        [line] = [line for line in out.splitlines() if f" {option} " in line]
        assert len(line.partition(option)[2].split()) > 4, line


def test_version(run: Run) -> None:
    assert run("--version") == (0, "dsedge 0.1.0\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile"],
        ["compile", "m.onnx"],
        ["compile", "m.onnx", "-t", "pos", "--max-drop", "many"],
        ["compil", "m.onnx"],
        ["targets", "--verbose"],
    ],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage:" in err and "Traceback" not in err


@pytest.mark.parametrize("option", [("--max-drop", "1"), ("--metric", "top1")])
def test_judging_needs_data_that_may_have_no_labels(run: Run, option: tuple[str, str]) -> None:
    code, out, err = run("compile", "m.onnx", "-t", "pos", *option)
    assert (code, out) == (2, "")
    assert err.startswith(f"error[DS145]: {option[0]}: ") and "--metric sqnr" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compile", "m.onnx", "-t", "pos", "--max-drop", "many"], "--max-drop"),
        (["compile"], "Missing argument 'MODEL'"),
        (["compil", "m.onnx"], "compil"),
    ],
)
def test_wrong_usage_is_json_where_that_was_asked_for(run: Run, arguments: list[str], words: str) -> None:
    code, out, err = run(*arguments, "--json")
    error = json.loads(out)["error"]
    assert (code, err, error["code"]) == (2, "", "DS145")
    assert words in error["what"] and "--help" in error["hint"]
    assert run(*arguments[:1], "--json", "--help")[0] == (2 if arguments[0] == "compil" else 0)


def test_what_is_missing_and_whose_plan_it_is(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dsedge.target.Target, "matches_host", lambda self: (True, "a test"))
    board = tmp_path / "board.toml"
    board.write_text('extends = "pos-x86"\nruntimes = [{ name = "onnxruntime" }, { name = "c" }]\n')
    code, out, _ = run("check", DIGITS / "digits_cnn.onnx", "-t", board)
    assert code == 0 and "plan for onnxruntime/x86-vnni, before its audit" in out
    assert re.search(r"^c +has no backend yet *$", out, re.MULTILINE) and "another runtime's" not in out
    assert "c: has no backend yet" in run("targets", board)[1]


def test_data_without_labels_can_be_judged_without(run: Run, tmp_path: Path) -> None:
    data = DIGITS / "calibration.npz"
    given = ("-t", "pos-x86", "--runtime", "onnxruntime", "--calib", data, "--eval", data, "-o", tmp_path / "out")
    code, _, err = run("compile", DIGITS / "digits_cnn.onnx", *given)
    assert code == 2 and "error[DS124]" in err and "--metric sqnr or --metric agreement" in err


def test_a_count_is_shown_only_where_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    with open(terminal, "w") as stream:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", stream)
        with progress(shown=True) as report:
            assert report is not None
            report("calibrate", 0, 128)
            time.sleep(0.5)
            report("build", 0, None)
            time.sleep(0.5)
        shown = os.read(controller, 1 << 20).decode()
    os.close(controller)
    assert "0/128" in shown and "0/128" not in shown[shown.index("build") :]
    assert "?" not in shown.replace("\x1b[?25", "")


def test_an_error_is_text_on_standard_error(run: Run, tmp_path: Path) -> None:
    code, out, err = run("inspect", tmp_path / "none.onnx")
    assert (code, out) == (2, "")
    assert err.startswith(f"error[DS101]: {tmp_path}/none.onnx: the file cannot be read\n  because: No such file")


def test_an_error_is_json_on_standard_output(run: Run) -> None:
    code, out, err = run("targets", "rasberry-pi", "--json")
    assert (code, err) == (2, "")
    error = json.loads(out)["error"]
    assert error["code"] == "DS141"
    assert "did you mean 'raspberry-pi'" in error["hint"]


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(run: Run, place: str) -> None:
    code, _, err = run(*(["--debug", "targets", "x"] if place == "before" else ["targets", "x", "--debug"]))
    assert code == 2
    assert "Traceback" in err and "error[DS141]" in err


def test_names_are_neither_markup_nor_control_codes(run: Run, tmp_path: Path) -> None:
    _, _, err = run("inspect", tmp_path / "[bold]x[/bold]\x1b[2J\n:smile:.onnx")
    assert "[bold]x[/bold]\\x1b[2J\\n:smile:.onnx" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("error", [ValueError("a [b] c"), MemoryError(), RecursionError("too deep"), OSError(5, "I/O")])
def test_an_unexpected_error_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(dsedge.target, "load_target", fail)
    code, out, err = run("targets", "t4")
    assert (code, out) == (3, "")
    assert err.startswith("error[DS999]: an error inside dsedge\n")
    assert f"because: {type(error).__name__}: {error}" in err and "--debug" in err and "Traceback" not in err


def test_check_lists_every_unsupported_operator(run: Run, tmp_path: Path) -> None:
    model = foreign(tmp_path / "m.onnx", "Fold", "Spindle")
    code, out, err = run("check", model, "-t", "raspberry-pi-5")
    assert (code, out) == (2, "")
    assert "error[DS201]" in err and "node_Fold" in err and "node_Spindle" in err
    code, out, err = run("check", model, "-t", "raspberry-pi-5", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "DS201"


def test_check_of_open_axes_is_the_error_of_compile(run: Run, tmp_path: Path) -> None:
    net = Net(ids=("N", "seq"))
    model = tmp_path / "m.onnx"
    onnx.save(net.proto(net.op("Relu", "ids")), model)
    answers = [run(verb, model, "-t", "jetson") for verb in ("check", "compile")]
    assert answers[0][2] == answers[1][2].replace("compile", "check") and "error[DS106]" in answers[0][2]


def test_a_runtime_of_the_device_is_not_called_missing(run: Run) -> None:
    code, out, _ = run("check", DIGITS / "digits_cnn.onnx", "-t", "jetson")
    assert code == 0 and "runs every operator" in out and "built on the device" in out and "is not installed" not in out
    found = json.loads(run("check", DIGITS / "digits_cnn.onnx", "-t", "jetson", "--json")[1])
    assert found["missing"] == {}
    assert re.search(r"tensorrt .*: built on the device", run("targets", "jetson")[1])


def test_check_previews_the_plan(run: Run) -> None:
    code, out, err = run("check", DIGITS / "digits_cnn.onnx", "-t", "pos")
    assert (code, err) == (0, "")
    assert "runs every operator" in out and "/x86-vnni" in out
    code, out, _ = run("check", DIGITS / "digits_cnn.onnx", "-t", "pos", "--json")
    found = json.loads(out)
    assert code == 0 and found["target"] == "pos-x86" and found["runtimes"]["onnxruntime"] == []
    assert {"Conv"} <= {node["op"] for node in found["plan"]["nodes"] if node["precision"] == "int8"}


def test_targets_passes_doctor(run: Run) -> None:
    code, out, _ = run("targets")
    assert code == 0 and "raspberry-pi-5" in out and "(c)" in out and "(tensorrt)" not in out
    code, out, _ = run("targets", "jetson")
    assert code == 0 and "jetson-orin-nano" in out and "no backend yet" not in out
    code, out, _ = run("targets", "pos-armv7")
    assert code == 0 and "no backend yet" in out
    code, out, _ = run("passes")
    assert code == 0 and "fold-batchnorm" in out
    code, out, _ = run("passes", "fold-batchnorm")
    assert code == 0 and all(f"\n{section}:\n" in out for section in ("What", "Why", "When not", "Cost"))
    code, _, err = run("passes", "fold-batchnrm")
    assert code == 2 and "did you mean 'fold-batchnorm'" in err
    code, out, _ = run("doctor", "--json")
    parts = {part["name"]: part for part in json.loads(out)["parts"]}
    assert code == 0 and parts["onnxruntime"]["version"] and {"torch", "images"} <= set(parts)


def test_sigterm_ends_with_a_coded_error() -> None:
    script = """
import os, signal, sys, time
import dsedge.target
from dsedge.cli import main
def wait(name):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
dsedge.target.load_target = wait
sys.argv = ["dsedge", "targets", "t4"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("error[DS900]: interrupted")


def test_ctrl_c_in_mid_compile_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", image=np.random.default_rng(0).random((50_000, 1, 8, 8), np.float32))
    out = tmp_path / "out" / "bundle"
    command = [sys.executable, "-m", "dsedge", "compile", DIGITS / "digits_cnn.onnx", "-t", "pos"]
    command += ["--calib", tmp_path / "calib.npz", "-o", out]
    environment = os.environ | {"DSEDGE_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not (out.parent.is_dir() and list(out.parent.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (130, ""), errors
    assert errors.startswith("error[DS900]")
    assert not out.parent.exists()


def test_a_reader_that_goes_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dsedge", "passes", "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_disk() -> None:
    command = [sys.executable, "-m", "dsedge", "passes"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error[DS999]") and "Traceback" not in done.stderr


def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    model = shutil.copy(DIGITS / "digits_cnn.onnx", tmp_path / "数é.onnx")
    command = [sys.executable, "-m", "dsedge", "inspect", model]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u6570\\xe9" in done.stdout


def test_an_extra_of_which_a_package_is_missing_is_not_ready(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import dsedge.report.doctor as doctor

    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "onnxscript" else real(name) or "1.0")
    _, out, _ = run("doctor", "--json")
    parts = {part["name"]: part for part in json.loads(out)["parts"]}
    assert parts["torch"]["version"] is None and parts["images"]["version"]
    assert parts["torch"]["hint"] == "pip install 'dsedge[torch]' (onnxscript missing)"


@pytest.mark.parametrize("verb", ["check", "compile"])
def test_shapes_that_the_model_does_not_take_are_the_first_suspects(run: Run, tmp_path: Path, verb: str) -> None:
    net = Net(x=("N", 8, "H", "W"))
    flat = net.op("Reshape", net.conv("x", 16), net.ints(-1, 16 * 12 * 12))
    onnx.save(net.proto(net.gemm(flat, 16 * 12 * 12, 10)), tmp_path / "m.onnx")
    arguments = [verb, tmp_path / "m.onnx", "-t", "raspberry-pi-5", "--runtime", "onnxruntime", "--json"]
    if verb == "compile":
        arguments += ["--calib", "random", "-o", tmp_path / "out"]
    code, out, _ = run(*arguments, "--shape", "x=1,8,10,10")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (2, "DS201")
    assert error["hint"].startswith("give lengths with --shape that the model takes")
