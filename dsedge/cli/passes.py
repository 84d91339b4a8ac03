"""`dsedge passes`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsedge.cli.options import Json
from dsedge.cli.output import print_json, show


def passes(
    name: Annotated[str | None, typer.Argument(metavar="P", help="One pass: its manual.")] = None,
    json: Json = False,
) -> None:
    """List the passes over the graph, or show the manual of one."""
    from dsedge.passes import discover
    from dsedge.report.catalog import find_pass, pass_list, pass_manual

    known = discover()
    shown = [find_pass(known, name)] if name is not None else list(known.values())
    if json:
        listed = [{"name": kind.name, "stage": kind.stage, "manual": pass_manual(kind)} for kind in shown]
        print_json(listed[0] if name is not None else listed)
    elif name is not None:
        print(f"{shown[0].name} (stage {shown[0].stage})\n\n{pass_manual(shown[0])}")
    else:
        show(pass_list(shown))
