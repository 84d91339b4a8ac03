"""`dsedge compile`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsedge.cli.options import (
    Factory,
    IoDtype,
    IoLayout,
    Json,
    Lift,
    ModelArgument,
    Runtime,
    Shape,
    State,
    StrictInt8,
    Target,
)
from dsedge.cli.output import print_json, progress, show


def compile_(
    model: ModelArgument,
    target: Target,
    calib: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Calibration data: .npz, .npy, a folder of them, of images or of sounds, .csv, .jsonl, or `random`.",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval", metavar="DATA", help="Labelled data to measure accuracy on; sqnr and agreement need no labels."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Metric of accuracy: top1 (the default), top5, auc, spearman, map, map50, miou, mae, psnr, si-sdr, "
            "exact, wer, agreement, sqnr, or package.module:function; NAME@OUTPUT judges that output.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Accuracy that may be lost, in the unit of the metric; for sqnr the noise in percent."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="How raw samples become input tensors: imagenet, yolo, speech, tokens, tabular, or a TOML file.",
        ),
    ] = None,
    runtime: Runtime = "auto",
    shape: Shape = None,
    state: State = None,
    factory: Factory = None,
    simplify: Annotated[
        str | None,
        typer.Option(
            metavar="TOOL",
            help="Simplify the graph first: onnxsim, onnxslim or onnxscript. A result that differs is dropped.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="P", help="int8, int8_dynamic, int4, bf16, fp16 or fp32, and for parts: int8,head=fp32,MatMul=int4."
        ),
    ] = "int8",
    strict_int8: StrictInt8 = False,
    io_layout: IoLayout = None,
    io_dtype: IoDtype = "float",
    lift: Lift = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="Folder to write; build/<model>-<board> by default."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--emit", metavar="FORM", help="Write it for a server too, beside the bundle: triton, a model repository."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there already.")] = False,
    json: Json = False,
) -> None:
    """Compile a trained model into a verified INT8 bundle for a board."""
    if evaluation is None and (max_drop is not None or metric is not None):
        from dsedge.errors import LoadError

        option = "--max-drop" if max_drop is not None else "--metric"
        hint = "give --eval DATA; --metric sqnr and --metric agreement need no labels in it"
        raise LoadError("DS145", "accuracy is measured on evaluation data, and there is none", where=option, hint=hint)

    from pathlib import Path

    from dsedge import streaming
    from dsedge.compiler import compile
    from dsedge.emit import emit, require_emit
    from dsedge.errors import DsedgeError
    from dsedge.frontend import shapes
    from dsedge.target import load_target

    if form is not None:
        board, name = load_target(target), Path(model).stem
        output = output if output is not None else str(Path("build") / f"{name}-{board.name}")
        require_emit(form, Path(f"{Path(output)}-{form}"), name, board, runtime, force=force)
    with progress(shown=not json) as report:
        bundle = compile(
            model,
            target=target,
            calibration=calib,
            evaluate=(evaluation, metric or "top1") if evaluation is not None else None,
            max_drop=max_drop,
            recipe=recipe,
            runtime=runtime,
            shapes=shapes.from_options(shape or []),
            states=streaming.from_options(state or []),
            factory=factory,
            simplify=simplify,
            precision=precision,
            strict_int8=strict_int8,
            io_layout=io_layout,
            io_dtype=io_dtype,
            lift=lift,
            output=output,
            force=force,
            progress=report,
        )
    if not json:
        from dsedge.report.terminal import bundle_summary

        show(bundle_summary(bundle))
    try:
        emitted = None if form is None else emit(form, [bundle], Path(f"{bundle.path}-{form}"), force=force)
    except DsedgeError as error:
        error.hint = "; ".join([*([error.hint] if error.hint else []), f"the bundle was written: {bundle.path}"])
        raise
    if json:
        failures = [gate.name for gate in bundle.manifest.failed]
        printed = {"bundle": str(bundle.path), "failed": failures, "manifest": bundle.manifest.to_json()}
        print_json(printed | ({"emitted": emitted.to_json()} if emitted else {}))
    elif emitted:
        show("\n".join(emitted.lines()))
    if failed := bundle.manifest.failed:
        if json:
            raise typer.Exit(1)
        from dsedge.errors import GateError
        from dsedge.report import summary

        limits = ", ".join(f"{g.name} is {summary.value(g)}, limit {summary.limit(g)}" for g in failed)
        held = "the bundle holds the float artifact" if bundle.manifest.precision.precision == "float32" else None
        raise GateError("DS601", f"a gate failed: {limits}", where=str(bundle.path), hint=held)
