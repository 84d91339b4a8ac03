"""A sample of the models that onnx tests runtimes with: one operator each, of all kinds, types and opsets.

`tools/zoo_report.py` takes all of them; `python -m onnx.backend.test.cmd_tools generate-data -o FOLDER` writes them.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import onnx
import pytest

import dsedge
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

pytestmark = pytest.mark.slow

COUNT = 60
# Opsets and element types that nobody reads, operators without a kernel, inputs that noise cannot be (a shape, say).
REFUSED = ("DS106", "DS108", "DS109", "DS110", "DS122", "DS201")


@pytest.fixture(scope="module")
def models() -> dict[str, onnx.ModelProto]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    found = {case.name: case.model for case in cases if case.model is not None and "expanded" not in case.name}
    return {name: found[name] for name in random.Random(0).sample(sorted(found), COUNT)}


def test_each_compiles_and_verifies_or_is_refused(models: dict[str, onnx.ModelProto], tmp_path: Path) -> None:
    wrong, compiled = {}, 0
    for name, model in models.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        try:
            bundle = dsedge.compile(path, target="raspberry-pi-5", calibration="random", output=tmp_path / name)
            verify_bundle(bundle)
            compiled += 1
        except DsedgeError as error:
            if error.code not in REFUSED or error.exit_code != 2 or not (error.hint or error.because):
                wrong[name] = str(error)
    assert not wrong
    assert compiled > COUNT / 3
