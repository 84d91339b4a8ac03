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
    """Show operators, shapes, layouts, parameters, MACs and opsets of a model; operators of an artifact."""
    from dsedge.bundle import Bundle
    from dsedge.errors import LoadError
    from dsedge.frontend import load
    from dsedge.frontend.shapes import from_options
    from dsedge.inspect import inspect_artifact, inspect_model
    from dsedge.report.graph import artifact_inspection, inspection

    # os.path, because Path raises for a name that is too long
    bundle = Bundle(source) if os.path.isdir(source) else None  # noqa: PTH112
    if bundle and (artifact := inspect_artifact(bundle)):
        if shape or factory:
            option = "--shape" if shape else "--factory"
            raise LoadError("DS145", "the artifact of a bundle is as it is", where=option, hint=f"leave out {option}")
        if json:
            print_json(artifact.to_json())
        else:
            show(artifact_inspection(artifact))
        return
    path = bundle.file("model") if bundle else source
    found = inspect_model(load(path, shapes=from_options(shape or []), factory=factory))
    if json:
        print_json(found.to_json())
    else:
        show(inspection(found))
