"""Standard output and standard error. Rich is imported when something is printed, not before."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dsedge.errors import DsedgeError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Progress = Callable[[str, int, int | None], None]

# Files and pipes have no width; this one folds few names, and grep finds them.
_PIPE_WIDTH = 160


def print_json(data: Any) -> None:
    """Print one JSON document, ASCII only."""
    sys.stdout.write(json.dumps(data, indent=1) + "\n")


def show(content: RenderableType) -> None:
    """Print a table or a text on standard output."""
    _console(stderr=False).print(content)


def show_error(error: DsedgeError) -> None:
    """Print an error on standard error: code, where, what, because, hint, not folded."""
    from rich.text import Text

    from dsedge.report.text import printable

    place = f"{printable(error.where)}: " if error.where else ""
    lines = Text.assemble((f"error[{error.code}]", "bold red"), ": ", (place, "bold"), printable(error.what))
    for name, text in (("because", error.because), ("hint", error.hint)):
        for i, line in enumerate((text or "").splitlines()):
            lines.append(f"\n  {name}: " if i == 0 else "\n    ", style="bold")
            lines.append(printable(line))
    _console(stderr=True).print(lines, soft_wrap=True)


@contextmanager
def progress(*, shown: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error for as long as the block runs; None where nobody watches.

    Args:
        shown: False to have none even in a terminal.
    """
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=_console(stderr=True), transient=True, refresh_per_second=4) as bar:
        task, current = bar.add_task("", total=None, count=""), ""

        def report(step: str, done: int, total: int | None) -> None:
            nonlocal current, task
            if step != current:
                current = step
                bar.remove_task(task)  # rich keeps the total of one that begins again
                task = bar.add_task(step, total=total, count="")
            bar.update(task, completed=done, total=total, count="" if total is None else f"{done}/{total}")

        yield report


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
