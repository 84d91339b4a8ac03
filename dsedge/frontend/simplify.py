"""Simplifiers of other people, each optional, none trusted: they crash on real models, hang, and change results.

One runs in a process of its own with a time limit. Its result is read as any file of a stranger is, and taken only when
it has the same inputs and outputs and computes the same numbers.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from dsedge.errors import BuildError, DsedgeError, LoadError, did_you_mean
from dsedge.frontend.onnx import load_onnx
from dsedge.model import Model
from dsedge.passes.base import PassRecord, run
from dsedge.passes.infer_shapes import InferShapes
from dsedge.passes.normalize import clone

TOOLS = ("onnxsim", "onnxslim", "onnxscript")
TIMEOUT_S = 300.0
_SAMPLES = 2
_SCRIPTS = {
    "onnxsim": "model, _ = onnxsim.simplify(onnx.load(source))",
    "onnxslim": "model = onnxslim.slim(onnx.load(source))",
    "onnxscript": "import onnxscript.optimizer; model = onnxscript.optimizer.optimize(onnx.load(source))",
}


def simplified(model: Model, tool: str, *, timeout_s: float = TIMEOUT_S) -> tuple[Model, PassRecord]:
    """The model after a simplifier, or the model itself when the result cannot be trusted.

    Args:
        model: as it was loaded.
        tool: one of `TOOLS`.
        timeout_s: seconds after which the simplifier is stopped.

    Returns:
        The model, and a record whose note says what became of the attempt.

    Raises:
        LoadError: DS145 for an unknown tool.
        BuildError: DS402 when it is not installed.
    """
    if tool not in TOOLS:
        raise LoadError("DS145", f"there is no simplifier {tool!r}", where="simplify", hint=did_you_mean(tool, TOOLS))
    if importlib.util.find_spec(tool) is None:
        raise BuildError("DS402", f"{tool} is not installed", hint="pip install 'dsedge[simplify]'")
    start = time.perf_counter()
    try:
        result = _run(model, tool, timeout_s)
        difference = _difference(model, result)
    except _Useless as why:
        result, changed, note = model, False, f"{tool}: the original was kept, {why}"
    else:
        counts = " became ".join(str(sum(1 for _ in m.graph.graph.all_nodes())) for m in (model, result))
        changed, note = True, f"{tool}: {counts} nodes; outputs differ by at most {difference:.2g}"
    return result, PassRecord("simplify", round(time.perf_counter() - start, 4), changed, (note,))


class _Useless(Exception):
    """Why a result is not taken."""


def _run(model: Model, tool: str, timeout_s: float) -> Model:
    with tempfile.TemporaryDirectory() as name:
        folder, graph = Path(name), clone(model.graph)
        run([InferShapes], graph)  # onnxsim fails on outputs without a shape
        ir.save(graph, folder / "source.onnx", external_data="weights")
        script = (
            f"import onnx, {tool}; source = 'source.onnx'; {_SCRIPTS[tool]}; "
            "onnx.save(model, 'result.onnx', save_as_external_data=True, location='result.data')"
        )
        try:
            # -P: what lies in the folder is data, nothing to import.
            command = [sys.executable, "-P", "-c", script]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise _Useless(f"it took more than {timeout_s:.0f} seconds") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [""])[-1][:200]
            raise _Useless(f"it failed: {last}" if done.returncode > 0 else f"it crashed (signal {-done.returncode})")
        try:
            result = load_onnx(folder / "result.onnx")
        except DsedgeError as error:
            raise _Useless(f"its result cannot be read: {error.code}, {error.what}") from error
    return replace(model, graph=result.graph)


def _difference(model: Model, result: Model) -> float:
    from dsedge.data import open_data
    from dsedge.verify import compare_floats, predictor, run_all

    for sides in ((model.inputs, result.inputs), (model.outputs, result.outputs)):
        names, got = ([(spec.name, spec.dtype) for spec in side] for side in sides)
        if names != got:
            raise _Useless("its result has other inputs or outputs")
    try:
        samples = open_data("random", model).head(_SAMPLES)
        before = run_all(predictor(model.graph, optimize=False), samples)
    except DsedgeError as error:
        raise _Useless(f"no input was found to compare them on: {error.because or error.what}") from error
    try:
        after = run_all(predictor(result.graph), samples)
    except DsedgeError as error:
        raise _Useless(f"its result does not run: {error.because or error.what}") from error
    largest, complaint = compare_floats(model.outputs, before, after)
    if complaint:
        raise _Useless(f"its result is another function: {complaint}")
    return largest
