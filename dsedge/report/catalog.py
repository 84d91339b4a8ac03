"""Terminal views of what dsedge knows: boards and passes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from dsedge.backends.base import available
from dsedge.choose import missing_runtimes
from dsedge.errors import LoadError, did_you_mean
from dsedge.report.doctor import on_device
from dsedge.report.terminal import cell, facts, table
from dsedge.target import Target

if TYPE_CHECKING:
    from dsedge.passes import Pass


def target_list(boards: Sequence[Target]) -> RenderableType:
    """All boards, one a row; runtimes without a backend stand in brackets."""
    rows = ((b.name, b.default_for or "", b.architecture, _runtimes(b)) for b in boards)
    more = cell("in brackets: no backend yet; `dsedge targets BOARD` shows all that is known of one", "dim")
    return Group(table(("board", "short", "arch", "runtimes"), rows), more)


def target_facts(board: Target) -> RenderableType:
    """All facts about a board that are known."""
    about = missing_runtimes(board) | on_device(runtime.name for runtime in board.runtimes)
    rows: list[tuple[str, object]] = [("board", board.name)]
    if board.asked_as:
        rows.append(("asked as", board.asked_as))
    for field, value in board.model_dump(exclude={"name", "asked_as", "runtimes"}).items():
        if isinstance(value, dict):
            rows += [(f"{field} {key}".replace("_", " "), item) for key, item in value.items() if item is not None]
        elif value not in (None, ()):
            rows.append((field.replace("_", " "), " ".join(value) if isinstance(value, tuple) else value))
    for runtime in board.runtimes:
        why = f": {about[runtime.name]}" if runtime.name in about else ""
        rows.append(("runtimes", f"{runtime.name} {runtime.version or ''}".strip() + why))
    return facts([*rows, ("this machine", board.matches_host()[1])])


def _runtimes(board: Target) -> str:
    backends = available()
    return " ".join(r.name if r.name in backends else f"({r.name})" for r in board.runtimes)


def find_pass(known: Mapping[str, type[Pass]], name: str) -> type[Pass]:
    """The pass of that name.

    Raises:
        LoadError: DS145 when there is none.
    """
    if name not in known:
        raise LoadError("DS145", f"no pass is called {name!r}", hint=did_you_mean(name, known))
    return known[name]


def pass_manual(kind: type[Pass]) -> str:
    """A pass's docstring, which is its manual."""
    return inspect.getdoc(kind) or "no manual"


def pass_list(kinds: Sequence[type[Pass]]) -> RenderableType:
    """All passes, one a row."""
    rows = ((kind.name, kind.stage, pass_manual(kind).splitlines()[0]) for kind in kinds)
    return table(("pass", "stage", "what it does"), rows)
