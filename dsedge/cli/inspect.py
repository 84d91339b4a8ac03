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
    """Show operators, shapes, layouts, parameters, MACs and opsets of a model; of other bundles the summary."""
    from dsedge.bundle import Bundle
    from dsedge.frontend import load
    from dsedge.frontend.shapes import from_options
    from dsedge.inspect import inspect_model
    from dsedge.report.graph import inspection
    from dsedge.report.terminal import bundle_summary

    # os.path, because Path raises for a name that is too long
    bundle = Bundle(source) if os.path.isdir(source) else None  # noqa: PTH112
    path = bundle.file("model") if bundle else source
    if bundle and bundle.file("model").suffix != ".onnx":
        print_json(bundle.manifest.to_json()) if json else show(bundle_summary(bundle))
        return
    found = inspect_model(load(path, shapes=from_options(shape or []), factory=factory))
    if json:
        print_json(found.to_json())
    else:
        show(inspection(found))
