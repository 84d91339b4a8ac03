"""Options and TOML files that cannot be meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attacks.hostile import EVALUATION, Ended, refused

Attempt = Callable[..., Ended]


def test_unknown_names_come_with_the_nearest_known_one(attempt: Attempt) -> None:
    refused(attempt(target="rasberry-pi5"), "DS141", "did you mean 'raspberry-pi-5'?")
    refused(attempt("--runtime", "onxruntime"), "DS143", "did you mean 'onnxruntime'?")
    refused(attempt("--recipe", "imagnet"), "DS127", "did you mean 'imagenet'?")
    refused(attempt("--eval", EVALUATION, "--metric", "top_1"), "DS125", "did you mean 'top1'?")


def test_names_that_resemble_nothing(attempt: Attempt) -> None:
    refused(attempt(target=""), "DS141", "known: ")
    refused(attempt("--runtime", "c", target="pos-armv7"), "DS144", "no backend")
    refused(attempt("--io-layout", "nwhc"), "DS145", "did you mean 'nhwc'?")
    refused(attempt("--io-dtype", "int9"), "DS145", "did you mean 'int8'?")
    refused(attempt("--lift", "slwo"), "DS145", "did you mean 'slow'?")
    refused(attempt("--lift", "slow", "--strict-int8"), "DS145", "exclude each other")
    refused(attempt("--io-dtype", "int8", "--runtime", "onnxruntime"), "DS146", "real numbers")
    refused(attempt("--recipe", "./none.toml"), "DS127", "No such file")
    refused(attempt(calib=None), "DS126", "--calib random")


@pytest.mark.parametrize("limit", ["-1", "-0.001", "nan", "inf", "-inf"])
def test_max_drop(attempt: Attempt, limit: str) -> None:
    refused(attempt("--eval", EVALUATION, f"--max-drop={limit}"), "DS145", "max_drop")


@pytest.mark.parametrize("option", [("--max-drop", "1"), ("--metric", "top1"), ("--max-drop", "much")])
def test_options_that_need_others(attempt: Attempt, option: tuple[str, str]) -> None:
    ended = attempt(*option)
    assert ended.code == 2 and option[0] in ended.err and "Traceback" not in ended.err


TARGETS: dict[str, tuple[str, str]] = {
    "no TOML": ("a = ", "not valid TOML"),
    "empty": ("", "field required"),
    "unknown field": ('extends = "pos-x86"\ncolour = 1', "colour: unknown field"),
    "wrong type": ('extends = "pos-x86"\ncores = "many"', "cores"),
    "below zero": ('extends = "pos-x86"\nmemory_mb = -1', "memory_mb"),
    "a budget of NaN": ('extends = "pos-x86"\n[budgets]\nlatency_ms = nan', "budgets.latency_ms"),
    "a budget without end": ('extends = "pos-x86"\n[budgets]\nsize_mb = inf', "budgets.size_mb"),
    "no runtimes": ('extends = "pos-x86"\nruntimes = []', "runtimes"),
    "a name of its own": ('extends = "pos-x86"\nname = "../x"', "name"),
    "extends itself": ('extends = "board"', "'board'"),
    "extends a circle": ('extends = "neighbour"', "a cycle, board -> neighbour -> board"),
    "extends nothing": ('extends = "pos-x87"', "did you mean 'pos-x86'?"),
    "extends a path": ('extends = "../../etc/passwd"', "no target is called"),
    "deep": ("a = " + "[" * 5000, "not valid TOML"),
    "large": ("#" * (2 << 20), "larger than 1 MiB"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_target_files(attempt: Attempt, tmp_path: Path, name: str) -> None:
    text, words = TARGETS[name]
    (tmp_path / "board.toml").write_text(text)
    (tmp_path / "neighbour.toml").write_text('extends = "board"')
    refused(attempt(target=tmp_path / "board.toml"), "DS142", "board.toml", words)


def test_target_files_that_cannot_be_read(attempt: Attempt, tmp_path: Path) -> None:
    refused(attempt(target=tmp_path / "none.toml"), "DS142", "No such file")
    refused(attempt(target=tmp_path), "DS142", "Is a directory")
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe")
    refused(attempt(target=tmp_path / "board.toml"), "DS142", "not valid TOML")


@pytest.mark.parametrize("field", ["scale = inf", "crop = 300", "mean = [0.5]", 'color = "cmyk"', "resize = 0"])
def test_recipes(attempt: Attempt, tmp_path: Path, field: str) -> None:
    fields = {"resize": 256, "crop": 224, "color": '"rgb"', "scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    fields.pop(field.partition(" ")[0])
    lines = ['title = "t"', 'why = "w"', 'method = "mse"', 'kind = "image"', field]
    (tmp_path / "r.toml").write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in fields.items())]))
    refused(attempt("--recipe", tmp_path / "r.toml"), "DS127", field.partition(" ")[0])
