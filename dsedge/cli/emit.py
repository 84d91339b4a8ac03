"""`dsedge emit`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsedge.cli.options import Json
from dsedge.cli.output import print_json, show


def emit(
    form: Annotated[str, typer.Argument(metavar="FORM", help="triton, a model repository.", show_default=False)],
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            help="Folders that `dsedge compile` wrote; several are engines of one model for several GPUs.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="The repository. Other models in it stay.")
    ] = "build/triton",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the model on the server; that of the bundle by default.")
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Requests that may be stacked, 0 for none; 8 where it was seen to be safe."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name that dsedge wrote.")] = False,
    json: Json = False,
) -> None:
    """Write bundles in the form that a server takes them in."""
    from pathlib import Path

    from dsedge.bundle import Bundle
    from dsedge.emit import emit as write

    opened = [Bundle(folder) for folder in bundles]
    made = write(form, opened, Path(output), name=name, max_batch=max_batch, force=force)
    if json:
        print_json(made.to_json())
    else:
        show("\n".join(made.lines()))
