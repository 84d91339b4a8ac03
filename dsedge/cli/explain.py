"""`dsedge explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsedge.cli.options import BundleArgument, Json
from dsedge.cli.output import print_json, show


def explain(
    bundle: BundleArgument,
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="One operator, with its scales.")] = None,
    json: Json = False,
) -> None:
    """Explain what a bundle runs in INT8, what not, and why."""
    from dsedge.bundle import Bundle
    from dsedge.report import explain as views
    from dsedge.report.plan import find_node, quantized_values, read_plan

    opened = Bundle(bundle)
    plan = read_plan(opened)
    if node is None:
        if json:
            facts = opened.manifest.model_dump(mode="json", include={"precision", "candidates"})
            print_json({**facts, "plan": plan.model_dump()})
        else:
            show(views.overview(opened, plan))
        return
    found = find_node(plan, node)
    if json:
        values = [{"role": role, **value.model_dump()} for role, value in quantized_values(plan, found)]
        print_json({"node": found.model_dump(), "values": values})
    else:
        show(views.node_view(plan, found, opened.manifest))
