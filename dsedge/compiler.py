"""The flow: a trained model and a board in, a bundle out.

    load -> check -> for each runtime (data -> normalize -> layout -> baseline -> annotate -> calibrate -> quantize
         -> build -> verify) -> measure [-> lift] -> gate -> bundle -> report

`compile` reads from top to bottom; what is done for each runtime is in `dsedge.portfolio`, the search for an artifact
that passes in `dsedge.search`, and the choice among all of them in `dsedge.race`; `dsedge.lift` is done on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsedge import data
from dsedge.accuracy import Evaluate
from dsedge.assemble import assemble
from dsedge.backends.base import Finding, is_deferred
from dsedge.bundle import Bundle, PassInfo
from dsedge.choose import choose_options, findings, is_portfolio, passed_over, ranked, usable_backends
from dsedge.deferred import finished
from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.frontend.quantizable import require_quantizable
from dsedge.frontend.shapes import Shapes
from dsedge.frontend.simplify import simplified
from dsedge.given import is_given
from dsedge.lift import lift_slow, require_lift
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.portfolio import Job, enter_all
from dsedge.quant.annotate import annotate
from dsedge.quant.existing import is_qdq, read_plan
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import INT8, parse_request
from dsedge.race import costs, pick, race, table
from dsedge.reported import complete_here
from dsedge.search import DEFAULT_METHOD
from dsedge.steps import Progress, Steps
from dsedge.streaming import with_states
from dsedge.strict import require_int8
from dsedge.target import Target, load_target
from dsedge.workspace import workspace


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
    lift: str | None = None,
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
        runtime: one of the target's runtimes; "auto" compiles for all that are installed and can run the model, and
            ships the fastest that passes its gates. Where this machine does not stand for the board nothing can be
            timed, and the first of them is taken.
        output: folder to write; `build/<model>-<board>` when None.
        force: replace a bundle that is there.
        example_inputs: what a module is exported with.
        shapes: input -> its axes, as for `dsedge.load`.
        factory: for a file of weights: what makes their module, as for `dsedge.load`.
        simplify: a simplifier to run first, "onnxsim", "onnxslim" or "onnxscript"; its result is dropped when it
            differs.
        precision: fp32, fp16, bf16, int8, int8_dynamic or int4 for the whole model, then `name=precision` for parts
            of it, separated by commas: "int8,head=fp32,MatMul=int4"; see `dsedge.quant.precision`. Only "int8" needs
            calibration.
        strict_int8: refuse the model when an operator would compute on real numbers, INT8 weights or not.
        io_layout: "nhwc" or "nchw": how images lie in the artifact's inputs and outputs (`dsedge.layout`); as in the
            model when None. Data and `evaluate` keep the layout of the model as it is given.
        io_dtype: "float", or "int8" or "uint8": inputs and outputs of the artifact are codes
            (`dsedge.quant.interface`), where the runtime can. Data and `evaluate` keep real numbers.
        lift: "slow": nodes that the runtime's profiler finds slower in INT8 than in float are returned to float, and
            the artifact in which they are is shipped where it is the fastest (`dsedge.slow`).
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
        require_lift(lift, strict_int8=strict_int8)
        source = with_states(load(model, example_inputs=example_inputs, shapes=shapes, factory=factory), states or {})
        require_quantizable(source)
        given = is_given(source, request)
    if simplify is not None:
        steps.tell("simplify", 0)
        source, record = simplified(source, simplify)
        steps.add(PassInfo(**asdict(record)))
    with steps("check"):
        every = is_portfolio(board, runtime)
        options, refused = choose_options(
            backends, source, board, request, io_dtype, every=every, missing=notes, shaped=bool(shapes)
        )
        notes += [*ranked(board, runtime), *passed_over(refused), *_about(source, evaluate, max_drop)]
        method = data.load_recipe(recipe).method if recipe else DEFAULT_METHOD
        passes = len(options) + (lift is not None)
        samples = _calibration(calibration, needed=request.calibrates and not given, passes=passes)
        free = every and request == INT8 and io_dtype == "float" and not strict_int8
    job = Job(
        board, request, given, samples, evaluate, max_drop, recipe, method, io_layout, io_dtype, strict_int8, free
    )
    out = Path(output) if output is not None else Path("build") / f"{source.name}-{board.name}"
    with workspace(out, force=force) as folder:
        entries, failures = enter_all(options, job, folder, steps)
        with steps("measure"):
            raced = race(entries, board)
        if lift is not None:
            raced, said = lift_slow(entries, raced, board, steps)
            notes += said
        winner, chosen = pick(raced, board, request)
        done = None
        if is_deferred(winner.backend):
            others = [entry for entry in raced if entry is not winner]
            winner, chosen, done = finished(winner, chosen, board, steps)
            raced = [*others, winner]
        if strict_int8:
            require_int8(chosen.plan, chosen.audit.unmatched)
        with steps("profile"):
            slowest = costs(winner, chosen, board)
        rows = table(raced, [*failures, *refused], (winner, chosen), request)
        assemble(folder, job, winner, chosen, rows, slowest, steps, notes, done)
        if done:
            complete_here(folder, winner.backend, board, steps)
    return Bundle(out)


def check(model: Model, target: Target, runtime: str = "auto") -> dict[str, list[Finding]]:
    """Every operator of a model against the runtimes of a target that are installed here.

    Returns:
        Runtime -> all nodes that it cannot run; an empty list where it can run all.
    """
    return findings(model, usable_backends(target, runtime)[0], target)


def preview(model: Model, target: Target, runtime: str = "auto") -> QuantPlan:
    """What would be INT8 and what would stay float, and why, before any data is seen.

    The plan is the preferred runtime's of those that can run the model; its contract names it.
    """
    backends, missing = usable_backends(target, runtime)
    (option,), _ = choose_options(backends, model, target, every=False, missing=missing)
    graph, _ = normalize(option.model)
    plan = read_plan if is_qdq(graph.graph) else annotate
    return plan(graph.graph.graph, option.backend.contract(target))


def _about(source: Model, evaluate: Evaluate | None, max_drop: float | None) -> list[str]:
    """What a reader must know of the request."""
    notes = []
    if source.states:
        pairs = ", ".join(f"{name} from {output}" for name, output in source.states.items())
        notes.append(f"a streaming model: it reads the state {pairs} of the frame before")
    if evaluate is not None and max_drop is None:
        notes.append("accuracy was measured, and nothing judges it: give --max-drop")
    return notes


def _calibration(source: str | Path | Iterable[Any] | None, *, needed: bool, passes: int) -> str | Path | Iterable[Any]:
    """Calibration data that can be read several times: then samples of a one-way iterable are kept.

    Raises:
        LoadError: DS126 when there is none and it is needed.
    """
    if source is None and needed:
        raise LoadError(
            "DS126",
            "quantizing needs calibration data",
            because="ranges come from real samples",
            hint="give --calib DATA; `--calib random` takes noise, and says so in the bundle",
        )
    if source is None:
        return "random"
    return list(source) if passes > 1 and isinstance(source, Iterator) else source
