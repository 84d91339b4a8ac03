"""Tables for the terminal. What comes from a file goes through `cell`, so that no name is taken as markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from dsedge.bundle import Bundle, Manifest, Status
from dsedge.report import device, summary
from dsedge.report.text import counted, number, printable

_OUTCOMES = {"pass": "green", "FAIL": "bold red", "not measured": "yellow"}


def cell(value: object, style: str = "") -> Text:
    """Text as it is: nothing in it is markup, control characters are shown as escapes."""
    return Text(printable(value), style=style, overflow="fold")


@dataclass(frozen=True)
class _Fitted:
    """A table that takes the width it is printed in: columns fold between words as long as that is enough."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Text]]
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        made = Table(box=box.SIMPLE_HEAD, title=self.title or None, title_justify="left", title_style="bold")
        made.pad_edge, made.padding = False, (0, 1, 0, 0)
        for column, width in zip(self.columns, self._widths(options.max_width), strict=True):
            side: Literal["left", "right"] = "right" if column.endswith("#") else "left"
            made.add_column(column.rstrip("#"), justify=side, overflow="fold", width=width)
        for row in self.rows:
            made.add_row(*row)
        yield made

    def _widths(self, room: int) -> list[int]:
        """The widest column gives way first, down to its longest word; no column is ever cut."""
        heads = [cell(head.rstrip("#")) for head in self.columns]
        columns = list(zip_longest(heads, *self.rows, fillvalue=Text()))  # a row may end early
        words = [max(cell_len(word) for text in column for word in text.plain.split() or [""]) for column in columns]
        widths = [max(text.cell_len for text in column) for column in columns]
        while sum(widths) + 2 * len(widths) > room and max(widths) > 1:
            spare = [i for i, width in enumerate(widths) if width > words[i]] or range(len(widths))
            widths[max(spare, key=lambda i: widths[i])] -= 1
        return widths


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> RenderableType:
    """A table; columns whose heading ends in "#" hold numbers and are set to the right."""
    return _Fitted(columns, [[v if isinstance(v, Text) else cell(v) for v in row] for row in rows], title)


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values, one a line; a name that repeats is shown once."""
    made, last = Table.grid(padding=(0, 2)), None
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row("" if name == last else name, value if isinstance(value, Text) else cell(value))
        last = name
    return made


def bundle_summary(bundle: Bundle) -> RenderableType:
    """What `dsedge compile` prints when it is done."""
    manifest = bundle.manifest
    rows: list[tuple[str, object]] = [
        ("model", manifest.model.name),
        ("target", summary.target(manifest)),
        ("runtime", f"{summary.runtime(manifest)}, variant {manifest.runtime.variant}"),
        ("inputs", summary.interface(manifest.model.inputs)),
        ("outputs", summary.interface(manifest.model.outputs)),
        ("precision", summary.precision(manifest)),
        *(("accuracy", line) for line in summary.accuracy(manifest) or ["not measured: no evaluation data was given"]),
        ("fidelity", summary.fidelity(manifest)),
        ("size", summary.sizes(manifest)),
        ("latency", summary.latency(manifest)),
        ("operators", summary.operators(manifest)),
        *(("slowest", line) for line in [summary.costs(manifest, 3)] if line),
        *(("gates", line) for line in _gates(manifest)),
        ("status", f"{manifest.status}: {summary.STATUS[manifest.status]}"),
        ("bundle", bundle.path),
    ]
    notes = [cell(f"note: {note}", "bold yellow") for note in manifest.notes]
    verdict = summary.verdict(manifest)
    left = [cell(f"{i}. {step}", "bold") for i, step in enumerate(device.steps(manifest, bundle.path), 1)]
    said = cell(verdict, "bold red" if manifest.failed else "bold")
    return Group(facts(rows), *candidates(manifest), *notes, said, *left)


def candidates(manifest: Manifest) -> list[RenderableType]:
    """The table of all artifacts; below it why one was chosen and why others could not be, which no column can hold."""
    found = summary.candidates(manifest)
    if not found:
        return []
    filled = [i for i in summary.filled(found) if i != len(summary.CANDIDATES) - 1]
    styles = ["bold green" if row.chosen else "red" if row.error or row.failed else "" for row, _ in found]
    lines = [[cell(cells[i], style) for i in filled] for (_, cells), style in zip(found, styles, strict=True)]
    reasons = [
        (" ".join(cells[:2]), cell(cells[-1], style))
        for (row, cells), style in zip(found, styles, strict=True)
        if (style or row.bytes is None) and cells[-1]
    ]
    timed = any(row.median_ms is not None for row, _ in found)
    title = "candidates: milliseconds, median and interquartile range (IQR)" if timed else "candidates, not timed here"
    return [table([summary.CANDIDATES[i] for i in filled], lines, title=title), facts(reasons)]


def _gates(manifest: Manifest) -> list[Text]:
    lines = []
    for gate in manifest.gates:
        outcome = summary.outcome(gate)
        line = Text(outcome, style=_OUTCOMES[outcome])
        line.append_text(cell(f"  {gate.name}", "default"))
        if gate.value is not None:
            line.append_text(cell(f" {summary.value(gate)}, limit {summary.limit(gate)}", "default"))
        if gate.note:
            line.append_text(cell(f" ({gate.note})", "dim"))
        lines.append(line)
    return lines


def comparison_table(bundles: Iterable[Bundle]) -> RenderableType:
    """Several bundles, one a row."""
    rows = []
    for bundle in bundles:
        manifest = bundle.manifest
        measured = summary.latencies(manifest)[1] is not None
        rows.append(
            (
                manifest.model.name,
                manifest.target.board,
                manifest.runtime.name,
                "; ".join(summary.metrics(manifest)) or "not measured",
                summary.sizes(manifest),
                summary.latency(manifest) if measured else cell("not measured", "yellow"),
                summary.operators(manifest),
                manifest.status if not manifest.failed else cell(f"{manifest.status}, gate FAILED", "bold red"),
                bundle.path,
            )
        )
    columns = (
        "model",
        "target",
        "runtime",
        "accuracy float -> INT8",
        "size float -> INT8",
        "latency float -> INT8",
        "operators",
        "status",
        "bundle",
    )
    return table(columns, rows)


def verification(bundle: Bundle, found: Mapping[str, Any]) -> RenderableType:
    """What `dsedge verify` prints; `found` is what `verify_bundle` returned."""
    manifest = bundle.manifest
    ratios = [
        f"SQNR {ratio:.1f} dB" if ratio is not None else "no difference" if same else "not all values equal"
        for ratio, same in zip(found["sqnr_db"], found["identical"], strict=True)
    ]
    # Of real numbers only the lengths are counted, which say nothing as long as they are equal.
    whole = [not s["dtype"].startswith("float") and s.get("scale") is None for s in manifest.model.outputs]
    shares = [
        f"{100 * share:.1f}% of the {'values' if is_whole else 'lengths'} of {spec['name']}"
        for spec, is_whole, share in zip(manifest.model.outputs, whole, found["agreement"], strict=True)
        if is_whole or share < 1
    ]
    status: Status = found.get("status", manifest.status)
    runtime = f"{manifest.runtime.name}, compiled with {manifest.runtime.version}"
    reported: Sequence[str] = ()
    if "device" in found:
        reported = found["device"] or ["it has not reported yet", *device.steps(manifest, bundle.path)]
        runtime = f"{summary.runtime(manifest)}; here its graph ran on onnxruntime"
    return facts(
        [
            ("bundle", bundle.path),
            ("files", f"{counted(len(manifest.files), 'file')}, every sha256 as written"),
            ("runtime", runtime),
            ("against float", f"{', '.join(ratios)} on {counted(found['samples'], 'golden sample')}"),
            ("against compile", f"max abs difference {number(found['max_abs_from_expected'])}"),
            *(("equal", share) for share in shares),
            *(("device", line) for line in reported),
            ("status", f"{status}: {summary.STATUS[status]}"),
        ]
    )
