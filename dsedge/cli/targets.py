"""`dsedge targets`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsedge.cli.options import Json
from dsedge.cli.output import print_json, show


def targets(
    target: Annotated[str | None, typer.Argument(metavar="T", help="Board, short name or TOML file.")] = None,
    json: Json = False,
) -> None:
    """List the boards, or show the facts about one."""
    from dsedge.report.catalog import target_facts, target_list
    from dsedge.target import known_targets, load_target

    if target is not None:
        board = load_target(target)
        if json:
            print_json(board.model_dump(mode="json"))
        else:
            show(target_facts(board))
        return
    boards = [load_target(name) for name in known_targets()]
    if json:
        print_json([board.model_dump(mode="json") for board in boards])
    else:
        show(target_list(boards))
