"""The flow: a trained model and a board in, a bundle out.

    load -> check -> data -> normalize -> layout -> baseline -> annotate -> calibrate -> quantize -> build -> verify
         -> measure -> gate -> bundle -> report

`compile` reads from top to bottom; each step is a function in the module that bears its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dsedge import candidate, data, verify
from dsedge.accuracy import Evaluate, judge_by
from dsedge.assemble import assemble
from dsedge.backends.base import Finding
from dsedge.bundle import Bundle, PassInfo, workspace
from dsedge.choose import choose_backend, findings, usable_backends
from dsedge.data.variety import sameness
from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.frontend.shapes import Shapes
from dsedge.frontend.simplify import simplified
from dsedge.given import accept
from dsedge.layout import find_layout
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.existing import is_qdq, read_plan, without_pairs
from dsedge.quant.interface import require_io_dtype
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import INT8, parse_request, require_matches
from dsedge.search import DEFAULT_METHOD, search
from dsedge.steps import Progress, Steps
from dsedge.streaming import open_samples, with_states
from dsedge.strict import require_int8
from dsedge.target import Target, load_target

_QUANTIZED = frozenset("DynamicQuantizeLinear ConvInteger MatMulInteger QGemm DynamicQuantizeLSTM".split())


_INPUT_DTYPES = frozenset(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string".split()
)


def compile(
    model: Any,
    *,
    target: str | Path | Target,
    calibration: str | Path | Iterable[Any] | None = None,
    evaluate: Evaluate | None = None,
    max_drop: float | None = None,
    recipe: str | Path | None = None,
    runtime: str = "auto",
    output: str | Path | None = None,
    force: bool = False,
    example_inputs: Any = None,
    shapes: Shapes | None = None,
    factory: str | Callable[[], Any] | None = None,
    simplify: str | None = None,
    precision: str = "int8",
    strict_int8: bool = False,
    io_layout: str | None = None,
    io_dtype: str = "float",
    states: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Compile a trained model for a board.

    Args:
        model: path of an ONNX, `.pt2`, TorchScript, state_dict or `.safetensors` file, a `torch.nn.Module`, or a
            `Model`.
        target: name of a board or of a family ("raspberry-pi"), or path of a TOML file.
        calibration: samples from which ranges are taken: an .npz, .npy or folder of images, any iterable of arrays or
            dicts (a DataLoader included), or the word "random", which is stamped into the bundle.
        evaluate: labelled data and a metric's name, or a function that is given a predict function.
        max_drop: the gate: how much worse than float the metric may become, in its own unit (points for top1).
        recipe: how raw samples become inputs: a name from `calibration/` or a path.
        runtime: one of the target's runtimes; "auto" takes the first that is installed and can run the model.
        output: folder to write; `build/<model>-<board>` when None.
        force: replace a bundle that is there.
        example_inputs: what a module is exported with.
        shapes: input -> its axes, as for `dsedge.load`.
        factory: for a file of weights: what makes their module, as for `dsedge.load`.
        simplify: a simplifier to run first, "onnxsim", "onnxslim" or "onnxscript"; its result is dropped when it
            differs.
        precision: fp32, fp16, int8, int8_dynamic or int4 for the whole model, then `name=precision` for parts of it,
            separated by commas: "int8,head=fp32,MatMul=int4"; see `dsedge.quant.precision`. Only "int8" needs
            calibration.
        strict_int8: refuse the model when an operator would compute on real numbers, INT8 weights or not.
        io_layout: "nhwc" or "nchw": how images lie in the artifact's inputs and outputs (`dsedge.layout`); as in the
            model when None. Data and `evaluate` keep the layout of the model as it is given.
        io_dtype: "float", or "int8" or "uint8": inputs and outputs of the artifact are codes
            (`dsedge.quant.interface`), where the runtime can. Data and `evaluate` keep real numbers.
        states: of a streaming model: input -> the output that is its next value. Samples are then frames in order,
            without the states; accuracy is judged with each model reading its own.
        progress: called as the steps go on.

    Returns:
        The bundle as it lies on disk. `manifest.failed` lists the gates that failed; when INT8 cost too much accuracy
        or ran slower than float, the bundle holds the float artifact.

    Raises:
        DsedgeError: whatever went wrong, with a code; nothing is left in `output` then.
    """
    steps = Steps(progress)
    with steps("load"):
        board = target if isinstance(target, Target) else load_target(target)
        backends, notes = usable_backends(board, runtime)
        request = parse_request(precision)
        source = with_states(load(model, example_inputs=example_inputs, shapes=shapes, factory=factory), states or {})
        _require_float(source)
        given = is_qdq(source.graph)
        if given and request != INT8:
            what = f"--precision {request} does not fit a model that has Q/DQ pairs of its own"
            raise LoadError("DS145", what, where=source.source, hint="compile the float model that it was made from")
    if simplify is not None:
        steps.tell("simplify", 0)
        source, record = simplified(source, simplify)
        steps.add(PassInfo(**asdict(record)))
    with steps("check"):
        backend, source, found = choose_backend(
            backends, source, board, request, io_dtype, missing=notes, shaped=bool(shapes)
        )
        contract, notes = backend.contract(board), [*notes, *found]
        codes = require_io_dtype(io_dtype, contract)
    with steps("data"):
        if source.states:
            pairs = ", ".join(f"{name} from {output}" for name, output in source.states.items())
            notes.append(f"a streaming model: it reads the state {pairs} of the frame before")
        method = data.load_recipe(recipe).method if recipe else DEFAULT_METHOD
        if calibration is None and (given or not request.calibrates):
            calibration = "random"
        samples = _open_calibration(calibration, source, recipe)
        judge = judge_by(evaluate, max_drop, source, recipe)
    if judge and max_drop is None:
        notes.append("accuracy was measured, and nothing judges it: give --max-drop")
    out = Path(output) if output is not None else Path("build") / f"{source.name}-{board.name}"
    with workspace(out, force=force) as folder:
        with steps("normalize", changed=True) as normalize_notes:
            graph, records = normalize(source)
            graph.graph.metadata_props["fingerprint"] = source.fingerprint  # for files that carry metadata
            first = samples.head(verify.GOLDEN_SAMPLES)
            difference = verify.same_function(source, graph, first, optimize=not given)
            normalize_notes.append(f"outputs differ by at most {difference:.2g} from the original's")
            if request.entries:
                asked = backend.prepare(graph.graph) if request.calibrates else graph.graph
                coded = [spec.name for spec in source.inputs if codes != "float" and spec.dtype == "float32"]
                require_matches(request, asked.graph, contract, codes=coded)
            floats = normalize(source.with_graph(without_pairs(source.graph)))[0] if given else graph
        for r in records:
            steps.add(PassInfo(name=r.name, seconds=round(r.seconds, 4), changed=r.changed, notes=list(r.notes)))
        with steps("layout", changed=io_layout is not None):
            layout = find_layout(graph, io_layout)
            samples, judge = layout.data(samples), layout.judge(judge, graph) if judge else None
            graph, floats = layout.model(graph), layout.model(floats)
        shown_data = judge.data if judge and judge.data else samples
        shown = shown_data.head(verify.FIDELITY_SAMPLES)
        with steps("baseline"):
            baseline = candidate.baseline(floats, backend, folder, shown, judge)
        if given:
            chosen = accept(
                graph, floats, baseline, backend, board, judge, folder, steps, io_dtype=codes, strict=strict_int8
            )
        else:
            chosen = search(
                graph,
                baseline,
                backend,
                board,
                samples,
                method,
                judge,
                folder,
                steps,
                request,
                io_dtype=codes,
                strict=strict_int8,
            )
        if strict_int8:
            require_int8(chosen.plan, chosen.audit.unmatched)
        if codes != "float" and candidate.precision(chosen.plan) == "float32":
            notes.append(f"inputs and outputs are float, not {codes}: so is the artifact")
        ranges = samples if chosen.samples or (request.calibrates and not given) else None
        seen = chosen.fidelity.model_copy(update={"source": Path(shown_data.source).name})
        chosen = replace(chosen, fidelity=seen)
        if seen.source == "random" and ranges is None:
            notes.append("no samples were given: fidelity and golden samples are random noise, not real data")
        if ranges and (why := sameness(ranges.head(verify.FIDELITY_SAMPLES))):
            notes.append(f"{why}: the ranges say little about real data")
        assemble(folder, graph, layout, board, backend, ranges, method, baseline, chosen, steps, notes, request)
    return Bundle(out)


def check(model: Model, target: Target, runtime: str = "auto") -> dict[str, list[Finding]]:
    """Every operator of a model against the runtimes of a target that are installed here.

    Returns:
        Runtime -> all nodes that it cannot run; an empty list where it can run all.
    """
    return findings(model, usable_backends(target, runtime)[0], target)


def preview(model: Model, target: Target, runtime: str = "auto") -> QuantPlan:
    """What would be INT8 and what would stay float, and why, before any data is seen."""
    backends, missing = usable_backends(target, runtime)
    backend, model, _ = choose_backend(backends, model, target, missing=missing)
    graph, _ = normalize(model)
    plan = read_plan if is_qdq(graph.graph) else annotate
    return plan(graph.graph.graph, backend.contract(target))


def _open_calibration(source: Any, model: Model, recipe: str | Path | None) -> data.Data:
    if source is None:
        raise LoadError(
            "DS126",
            "quantizing needs calibration data",
            because="ranges come from real samples",
            hint="give --calib DATA; `--calib random` takes noise, and says so in the bundle",
        )
    return open_samples(source, model, recipe=recipe)


def _require_float(model: Model) -> None:
    """Refuse what cannot be calibrated: a model that is quantized already, and inputs that numpy has no dtype for."""
    for node in model.graph.graph.all_nodes():
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise LoadError(
                "DS109",
                f"the model is quantized already: it holds {node.op_type}",
                where=model.source,
                hint="compile the float model that it was made from",
            )
    types = {value.name: value.type for value in model.graph.graph.inputs}
    for spec in model.inputs:
        tensor = isinstance(types[spec.name], ir.TensorType)
        if not tensor or spec.dtype not in _INPUT_DTYPES:
            kind = spec.dtype if tensor else "no tensor but a sequence, an optional or the like"
            raise LoadError(
                "DS106",
                f"input {spec.name!r} is {kind}, for which no data can be read",
                where=model.source,
                hint="export the model with float32 inputs",
            )
    for spec in model.outputs:
        if spec.dtype not in _INPUT_DTYPES and spec.dtype != "unknown":
            what = f"output {spec.name!r} is {spec.dtype}, which cannot be compared"
            raise LoadError("DS106", what, where=model.source, hint="export the model with float32 outputs")
