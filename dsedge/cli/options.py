"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Target = Annotated[
    str,
    typer.Option("--target", "-t", metavar="T", help="Board, short name or TOML file; `dsedge targets` lists them."),
]
Runtime = Annotated[str, typer.Option("--runtime", metavar="R", help="Runtime of the board, or auto for the fastest.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="ONNX, .pt2 or TorchScript file; or weights, with --factory.", show_default=False
    ),
]
Shape = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1,3,224,224",
        help="Shape of an input, once for each. A word leaves an axis open: ids=batch,128; a range says what lengths "
        "TensorRT builds for, least, usual and greatest: ids=1:8:32,128. "
        "An element type may go before it: ids=int64:1,128.",
    ),
]
State = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="INPUT=OUTPUT",
        help="Of a streaming model: an input and the output that is its next value, once for each.",
    ),
]
IoLayout = Annotated[
    str | None,
    typer.Option(
        "--io-layout",
        metavar="L",
        help="nhwc or nchw: how images lie in the artifact's inputs and outputs. Data keeps the model's layout.",
    ),
]
IoDtype = Annotated[
    str,
    typer.Option(
        "--io-dtype", metavar="D", help="float, or int8 or uint8: inputs and outputs of the artifact are codes."
    ),
]
StrictInt8 = Annotated[
    bool, typer.Option("--strict-int8", help="Refuse the model when an operator would compute on anything but codes.")
]
Lift = Annotated[
    str | None,
    typer.Option(
        "--lift",
        metavar="slow",
        help="slow: return operators to float that are slower in INT8, where that is measured to help.",
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="For a file of weights: a function that makes their module. It is your code, and is run.",
    ),
]
BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Folder that `dsedge compile` wrote.", show_default=False)
]
