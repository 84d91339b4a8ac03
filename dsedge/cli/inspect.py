"""`dsedge inspect`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from dsedge.cli.options import Factory, Json, Shape
from dsedge.cli.output import print_json, show


def inspect(
    source: Annotated[str, typer.Argument(metavar="MODEL|BUNDLE", help="Model file, or the folder of a bundle.")],
    shape: Shape = None,
    factory: Factory = None,
    json: Json = False,
) -> None:
    """Show operators, shapes, layouts, parameters, MACs and opsets of a model."""
    from dsedge.bundle import Bundle
    from dsedge.frontend import load
    from dsedge.frontend.shapes import from_options
    from dsedge.inspect import inspect_model
    from dsedge.report.graph import inspection

    # os.path, because Path raises for a name that is too long
    path = Bundle(source).file("model") if os.path.isdir(source) else source  # noqa: PTH112
    found = inspect_model(load(path, shapes=from_options(shape or []), factory=factory))
    if json:
        print_json(found.to_json())
    else:
        show(inspection(found))
