"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Target = Annotated[
    str,
    typer.Option("--target", "-t", metavar="T", help="Board, short name or TOML file; `dsedge targets` lists them."),
]
Runtime = Annotated[
    str, typer.Option("--runtime", metavar="R", help="Runtime of the board, or auto for the first that fits.")
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="ONNX file.", show_default=False)]
BundleArgument = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Folder that `dsedge compile` wrote.", show_default=False)
]
