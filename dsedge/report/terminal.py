"""Tables for the terminal. What comes from a file goes through `cell`, so that no name is taken as markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dsedge.bundle import Bundle, Manifest
from dsedge.report import summary
from dsedge.report.text import counted, number, printable

_OUTCOMES = {"pass": "green", "FAIL": "bold red", "not measured": "yellow"}


def cell(value: object, style: str = "") -> Text:
    """Text as it is: nothing in it is markup, control characters are shown as escapes."""
    return Text(printable(value), style=style, overflow="fold")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A table; columns whose heading ends in "#" hold numbers and are set to the right."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    cells = [[value if isinstance(value, Text) else cell(value) for value in row] for row in rows]
    for i, column in enumerate(columns):
        widest = max((len(row[0]) for row in cells), default=0)
        made.add_column(
            column.rstrip("#"),
            justify="right" if column.endswith("#") else "left",
            overflow="fold",
            min_width=min(widest, 24) if i == 0 else None,  # names are what people look for: they fold last
        )
    for row in cells:
        made.add_row(*row)
    return made


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
        ("precision", summary.precision(manifest)),
        *(("accuracy", line) for line in summary.accuracy(manifest) or ["not measured: no evaluation data was given"]),
        ("fidelity", summary.fidelity(manifest)),
        ("size", summary.sizes(manifest)),
        ("latency", summary.latency(manifest)),
        ("operators", summary.operators(manifest)),
        *(("slowest", line) for line in [summary.costs(manifest, 3)] if line),
        *(("gates", line) for line in _gates(manifest)),
        ("status", manifest.status),
        ("bundle", bundle.path),
    ]
    notes = [cell(f"note: {note}", "bold yellow") for note in manifest.notes]
    verdict = summary.verdict(manifest)
    return Group(facts(rows), *_candidates(manifest), *notes, cell(verdict, "bold red" if manifest.failed else "bold"))


def _candidates(manifest: Manifest) -> list[RenderableType]:
    """The table of all artifacts; below it why one was chosen and why others could not be, which no column can hold."""
    found = summary.candidates(manifest)
    if not found:
        return []
    filled = [i for i in range(len(summary.CANDIDATES) - 1) if any(cells[i] for _, cells in found)]
    styles = ["bold green" if row.chosen else "red" if row.error or row.failed else "" for row, _ in found]
    lines = [[cell(cells[i], style) for i in filled] for (_, cells), style in zip(found, styles, strict=True)]
    reasons = [
        (" ".join(cells[:2]), cell(cells[-1], style))
        for (_, cells), style in zip(found, styles, strict=True)
        if style and cells[-1]
    ]
    title = "candidates: milliseconds, median and interquartile range (IQR)"
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


def comparison_table(bundles: Iterable[Bundle]) -> Table:
    """Several bundles, one a row."""
    rows = []
    for bundle in bundles:
        manifest = bundle.manifest
        measured = summary.latencies(manifest)[1] is not None
        accuracy = [f"{m.name} {number(m.float)} -> {number(m.quantized)}" for m in manifest.metrics]
        rows.append(
            (
                manifest.model.name,
                manifest.target.board,
                manifest.runtime.name,
                "; ".join(accuracy) or "not measured",
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
    ratios = ["no difference" if ratio is None else f"SQNR {ratio:.1f} dB" for ratio in found["sqnr_db"]]
    agreement = ", ".join(f"{100 * share:.1f}%" for share in found["agreement"])
    runtime = f"{manifest.runtime.name}, compiled with {manifest.runtime.version}"
    device: Sequence[str] = ()
    if "device" in found:
        device = found["device"] or ["it has not reported yet: run verify.py there, and copy device.json back"]
        runtime = f"{summary.runtime(manifest)}; here its graph ran on onnxruntime"
    return facts(
        [
            ("bundle", bundle.path),
            ("files", f"{counted(len(manifest.files), 'file')}, every sha256 as written"),
            ("runtime", runtime),
            ("against float", ", ".join(ratios)),
            ("against compile", f"max abs difference {number(found['max_abs_from_expected'])}"),
            ("agreement", f"{agreement} of integers and of lengths are equal"),
            *(("device", line) for line in device),
            ("status", found.get("status", manifest.status)),
        ]
    )
