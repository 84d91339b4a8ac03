"""The codes, and the texts that people see."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsedge import errors
from dsedge.errors import CODES, DsedgeError, LoadError, did_you_mean

ROOT = Path(__file__).parents[1]
MODEL = "models/digits_cnn/digits_cnn.onnx"
CALIBRATION = "models/digits_cnn/calibration.npz"
EVALUATION = "models/digits_cnn/evaluation.npz"

KINDS = (
    ("LoadError", "1", 2),
    ("CheckError", "2", 2),
    ("PassError", "3", 3),
    ("BuildError", "4", 3),
    ("VerifyError", "5", 3),
    ("GateError", "6", 1),
    ("BundleError", "8", 2),
)
"""Class, first digit of its codes, exit code."""


def used() -> dict[str, set[str]]:
    """Code -> the names it is used with in the sources: a class, or a function that is given the code."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "dsedge").rglob("*.py"):
        if path.name == "errors.py":
            continue
        text = path.read_text()
        for match in re.finditer(r'"(DS\d{3})"', text):
            call = re.search(r"(\w+)\([^()]*$", text[: match.start()])
            found.setdefault(match[1], set()).add(call[1] if call else "")
    return found


def test_every_code_is_raised_and_every_raised_code_is_known() -> None:
    assert sorted(used()) == sorted(CODES)


def test_a_code_belongs_to_the_class_of_its_step() -> None:
    for name, digit, exit_code in KINDS:
        kind = getattr(errors, name)
        assert issubclass(kind, DsedgeError) and kind.exit_code == exit_code and f"DS{digit}xx" in kind.__doc__
    digits = {name: digit for name, digit, _ in KINDS}
    wrong = [(code, name) for code, names in used().items() for name in names if digits.get(name, code[2]) != code[2]]
    assert wrong == []


def test_codes_are_told_apart() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(re.fullmatch(r"DS[1-9]\d\d", code) for code in CODES)
    assert all(text[0].islower() or text.startswith("PyTorch") for text in CODES.values())
    assert not any(text.endswith(".") for text in CODES.values())
    with pytest.raises(ValueError, match="DS666"):
        LoadError("DS666", "no such code")


def test_the_message() -> None:
    bare = LoadError("DS101", "the file cannot be read")
    assert str(bare) == "DS101: the file cannot be read"
    full = LoadError("DS101", "the file cannot be read", where="m.onnx", because="it is a folder", hint="give a file")
    assert str(full) == "DS101: m.onnx: the file cannot be read\n  because: it is a folder\n  hint: give a file"
    assert full.to_json() == {
        "code": "DS101",
        "where": "m.onnx",
        "what": "the file cannot be read",
        "because": "it is a folder",
        "hint": "give a file",
    }


@pytest.mark.parametrize(("name", "digit", "exit_code"), KINDS)
def test_errors_survive_another_process(name: str, digit: str, exit_code: int) -> None:
    code = next(code for code in CODES if code[2] == digit)
    error = getattr(errors, name)(code, "what", where="where", because="because", hint="hint")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.to_json(), str(copy)) == (type(error), error.to_json(), str(error))


def test_did_you_mean() -> None:
    assert did_you_mean("top2", ["top5", "auc", "top1"]) == "did you mean 'top5'? Known: auc, top1, top5"
    assert did_you_mean("xyz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("", []) == "known: "
    assert did_you_mean("Nx", ["orin-nx", "nxt", "xavier-nx"]).startswith("did you mean 'orin-nx' or 'xavier-nx'?")


COMPILE = f"compile {MODEL} -t raspberry-pi-5 -o OUT"
SNAPSHOTS = {
    "inspect none.onnx": """\
error[DS101]: none.onnx: the file cannot be read
  because: No such file or directory
""",
    "check models -t pos-arm64": """\
error[DS101]: models: this is a folder
  hint: give the .onnx file in it
""",
    f"inspect {CALIBRATION}": """\
error[DS103]: models/digits_cnn/calibration.npz: this is data, arrays of numpy, not an ONNX model
  hint: give it with --calib or --eval, and a model file as MODEL
""",
    f"inspect {MODEL} --shape imgae=1,1,8,8": """\
error[DS145]: shape: the model has no input 'imgae'
  hint: did you mean 'image'? Known: image
""",
    f"{COMPILE} --calib none.npz": """\
error[DS121]: none.npz: there is no such file or folder
""",
    f"{COMPILE} --calib models/fraud_lstm/calibration.npz": """\
error[DS122]: models/fraud_lstm/calibration.npz, sample 0, input 'image': the shape is [32, 24], \
the model takes [batch, 1, 8, 8], or [1, 8, 8] for one sample
""",
    f"{COMPILE}": """\
error[DS126]: quantizing needs calibration data
  because: ranges come from real samples
  hint: give --calib DATA; `--calib random` takes noise, and says so in the bundle
""",
    f"{COMPILE} --calib {CALIBRATION} --eval {CALIBRATION}": """\
error[DS124]: models/digits_cnn/calibration.npz: there are no labels
  hint: save them in an .npz file beside the inputs, as 'labels'; or judge without labels, by --metric sqnr or --metric agreement
""",
    f"{COMPILE} --calib {CALIBRATION} --eval {EVALUATION} --metric top2": """\
error[DS125]: no metric is called 'top2'
  hint: did you mean 'top5'? Known: agreement, auc, exact, mae, map, map50, miou, psnr, si-sdr, spearman, sqnr, top1, top5, wer
""",
    f"{COMPILE} --calib {CALIBRATION} --eval {EVALUATION} --max-drop=-1": """\
error[DS145]: max_drop is -1.0, not a number from 0 upwards
""",
    f"check {MODEL} -t pos-arm64 --runtime onnxruntme": """\
error[DS143]: pos-arm64 does not run 'onnxruntme'
  hint: did you mean 'onnxruntime'? Known: auto, litert, onnxruntime
""",
    "targets boards/none.toml": """\
error[DS142]: boards/none.toml: the file cannot be read
  because: No such file or directory
""",
    "verify models": """\
error[DS804]: models: no readable manifest.json in this folder
  because: [Errno 2] No such file or directory: 'models/manifest.json'
  hint: give a folder that `dsedge compile` wrote
""",
    f"compile {MODEL} -t raspberry-pi-5 --calib random -o models": """\
error[DS801]: models: the output path is taken by something else
  hint: give another -o
""",
}


def test_texts(tmp_path: Path) -> None:
    """All in one process, as the command line shows them."""
    script = """
import sys
from dsedge.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["dsedge", *line.split()]
    try:
        main()
    except SystemExit as end:
        print(f"exit code {end.code}\\n---", file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(SNAPSHOTS).replace("OUT", str(tmp_path / "out")),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == ""
    shown = done.stderr.split("---\n")[:-1]
    assert dict(zip(SNAPSHOTS, shown, strict=True)) == {
        line: f"{text}exit code 2\n" for line, text in SNAPSHOTS.items()
    }
    assert list(tmp_path.glob("out*")) == []
