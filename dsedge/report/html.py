"""The report of a bundle: one HTML file that needs nothing else, no network and no script.

Model files are hostile input, so every name in it is escaped (`markup`), and the page forbids itself scripts and
network access by a content security policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsedge.bundle import Manifest
from dsedge.report import device, summary
from dsedge.report.charts import bars, stack
from dsedge.report.markup import Html, tag
from dsedge.report.text import counted, number, size

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OUTCOMES = {"pass": "pass", "FAIL": "fail", "not measured": "open"}


def render(manifest: Manifest, plan: Mapping[str, Any]) -> str:
    """The report.

    Args:
        manifest: of the bundle.
        plan: as `QuantPlan.to_json` writes it.

    Returns:
        An HTML document.
    """
    style = Html(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))
    title = f"{manifest.model.name} for {manifest.target.board}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: dsedge report"),
        tag("style", style),
    )
    body = tag(
        "body",
        _header(manifest, title),
        _verdict(manifest),
        _device(manifest),
        _gates(manifest),
        _candidates(manifest),
        _accuracy(manifest),
        _latency(manifest),
        _coverage(manifest, plan),
        _calibration(manifest),
        _passes(manifest),
        _nodes(plan),
        _files(manifest),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(manifest: Manifest, title: str) -> Html:
    by = f"compiled {manifest.created} by dsedge {manifest.dsedge}"
    line = f"{summary.runtime(manifest)}, variant {manifest.runtime.variant}; {by}"
    return tag("header", tag("h1", title), tag("p", line, class_="soft"))


def _verdict(manifest: Manifest) -> Html:
    failed = bool(manifest.failed)
    tiles = [
        ("status", manifest.status),
        ("precision", summary.precision(manifest)),
        (
            "accuracy",
            "; ".join(summary.metrics(manifest)) or "not measured",
        ),
        ("size", summary.sizes(manifest)),
        ("latency", summary.latency(manifest).partition(":")[0]),
        ("operators", summary.operators(manifest)),
    ]
    return tag(
        "section",
        tag("h2", summary.verdict(manifest), class_="fail" if failed else "pass"),
        tag("div", [tag("div", tag("small", name), value) for name, value in tiles], class_="tiles"),
        tag("ul", [tag("li", note, class_="open") for note in manifest.notes]) if manifest.notes else "",
        class_="verdict failed" if failed else "verdict",
    )


def _device(manifest: Manifest) -> Html:
    """What is left to do on the device; nothing for a bundle that was finished here."""
    if not manifest.deferred:
        return Html("")
    words = [tag("li", tag("b", status), f": {text}") for status, text in summary.STATUS.items()]
    rows = [(tag("code", name), why) for name, why in device.files(manifest)]
    steps = device.steps(manifest, "BUNDLE")
    return _section(
        "On the device",
        (tag("p", "BUNDLE is the folder of this report."), tag("ol", [tag("li", step) for step in steps]))
        if steps
        else "",
        _table(("file", "what for"), rows),
        tag("p", "The status of a bundle is one of these:"),
        tag("ul", words),
    )


def _gates(manifest: Manifest) -> Html:
    rows = [
        (
            g.name,
            summary.value(g),
            summary.limit(g),
            tag("span", summary.outcome(g), class_=_OUTCOMES[summary.outcome(g)]),
            g.note,
        )
        for g in manifest.gates
    ]
    return _section("Gates", _table(("gate", "value#", "limit#", "result", "note"), rows))


def _candidates(manifest: Manifest) -> Html:
    """All artifacts that there were to choose from; nothing where there was one."""
    found = summary.candidates(manifest)
    if not found:
        return Html("")
    timed = [
        (f"{row.runtime} {cells[1]}", row.median_ms, row.median_ms + (row.iqr_ms or 0.0) / 2, _bar(row.precision))
        for row, cells in found
        if row.median_ms is not None
    ]
    style, filled = {True: "pass", False: None}, summary.filled(found)
    rows = [[tag("span", cells[i], class_=style[row.chosen]) for i in filled] for row, cells in found]
    return _section(
        "Candidates",
        bars(timed, "ms") if timed else "",
        _table([summary.CANDIDATES[i] for i in filled], rows),
    )


def _bar(precision: str) -> str:
    return "float" if precision.startswith("float") else "int8"


def _accuracy(manifest: Manifest) -> Html:
    rows = [
        (
            m.name,
            summary.reached(m.name, m.float),
            summary.reached(m.name, m.quantized),
            summary.lost(m.name, m.drop),
            "" if m.samples is None else f"{m.samples:,}",
        )
        for m in manifest.metrics
    ]
    columns = ("metric", "float#", "artifact#", "drop#", "samples#")
    measured = _table(columns, rows) if rows else tag("p", "Not measured: no evaluation data was given.", class_="open")
    return _section(
        "Accuracy and fidelity", measured, tag("p", "Against the float model: ", summary.fidelity(manifest), ".")
    )


def _latency(manifest: Manifest) -> Html:
    if not manifest.latency:
        return _section("Latency", tag("p", _sentence(summary.latency(manifest)), class_="open"))
    chart = bars(
        [(f"{x.precision}, {x.runtime}", x.median_ms, x.p90_ms, _bar(x.precision)) for x in manifest.latency],
        "ms",
    )
    rows = [
        (
            x.precision,
            number(x.median_ms),
            number(x.iqr_ms),
            number(x.p90_ms),
            f"{x.runs:,}",
            x.threads,
            x.runtime,
            x.where,
        )
        for x in manifest.latency
    ]
    columns = ("precision", "median ms#", "IQR ms#", "p90 ms#", "runs#", "threads#", "runtime", "where")
    conditions: dict[str, list[str]] = {}
    for key, value in (pair for x in manifest.latency for pair in x.conditions.items()):
        conditions.setdefault(key, []).append(_condition(value))
    facts = [(key.replace("_", " "), ", ".join(dict.fromkeys(values))) for key, values in conditions.items()]
    slowest = [
        (
            tag("code", x.node) if x.node else counted(x.operators, "operator"),
            x.op,
            number(x.ms),
            f"{100 * x.share:.1f}",
        )
        for x in manifest.costs
    ]
    profile = (
        tag("h3", "What costs the most, by the runtime's own profiler"),
        _table(("operator", "type", "ms#", "percent#"), slowest)
        if slowest
        else tag("p", _sentence(summary.costs(manifest, 0)), class_="open"),
    )
    return _section(
        "Latency",
        chart,
        _table(columns, rows),
        tag("h3", "Conditions"),
        _table(("", ""), facts),
        profile,
    )


def _condition(value: object) -> str:
    if value is None:
        return "not known"
    return number(value) if isinstance(value, float) else str(value)


def _coverage(manifest: Manifest, plan: Mapping[str, Any]) -> Html:
    found = manifest.precision
    kinds = summary.computed(found)
    other = found.total_ops - found.int8_ops - found.int4_ops - found.bf16_ops - found.float_ops
    parts = (
        *((name, count, name[:4].lower()) for name, count in kinds),
        ("float", found.float_ops - found.fp16_ops, "float"),
        ("other", max(other, 0), "other"),
    )
    islands = Counter((island.op, island.reason) for island in found.islands)
    names: dict[tuple[str, str], list[str]] = {}
    for island in found.islands:
        names.setdefault((island.op, island.reason), []).append(island.node)
    rows = [
        (op, count, reason, tag("code", ", ".join(names[op, reason]))) for (op, reason), count in islands.most_common()
    ]
    return _section(
        "What runs in INT8",
        stack(parts),
        tag("p", _sentence(found.audit), class_=None if found.audited else "open"),
        tag("h3", "In float") if rows else tag("p", "No operator is left in float."),
        _table(("operator", "nodes#", "because", "names"), rows) if rows else "",
    )


def _calibration(manifest: Manifest) -> Html:
    found = manifest.calibration
    if found is None:
        return _section("Calibration", tag("p", "None."))
    used = [("samples", f"{found.samples:,}"), ("method", found.method)]
    rows = [
        ("source", found.source),
        *(used if found.samples else [("samples", "not used: the artifact has no range that is known beforehand")]),
        ("sha256", tag("code", found.sha256 or "none: the data was no file")),
    ]
    return _section("Calibration", _table(("", ""), rows))


def _passes(manifest: Manifest) -> Html:
    rows = [(p.name, f"{p.seconds:.3f}", "yes" if p.changed else "", "; ".join(p.notes)) for p in manifest.passes]
    table = _table(("name", "seconds#", "changed the graph", "notes"), rows)
    return _folded(f"Steps, and the passes that they ran: {len(rows)}", table)


def _nodes(plan: Mapping[str, Any]) -> Html:
    scales = {v["name"]: v for v in plan.get("values", ())}
    rows = []
    lowered = any(node.get("lowered") for node in plan.get("nodes", ()))
    for node in plan.get("nodes", ()):
        value = scales.get(node.get("result", ""), {})
        scale = value.get("scale")
        written = (
            f"{value['dtype']}, scale {number(scale)}, zero point {value['zero_point']}" if scale is not None else ""
        )
        fused = node.get("fused_into")
        because = f"fused into {fused}" if fused else node["reason"]
        becomes = (node.get("lowered") or "",) if lowered else ()
        rows.append((tag("code", node["name"]), node["op"], *becomes, node["precision"], because, written))
    columns = ("operator", "type", *(("becomes",) if lowered else ()), "precision", "because", "writes")
    table = _table(columns, rows)
    return _folded(f"The plan: {counted(len(rows), 'operator')}", table)


def _files(manifest: Manifest) -> Html:
    model = manifest.model
    rows = [(f.path, f.role, size(f.bytes), tag("code", f.sha256)) for f in manifest.files]
    specs = [
        (kind, spec.get("name"), summary.element(spec), summary.shape(spec.get("shape")), spec.get("layout") or "")
        for kind, listed in (("input", model.inputs), ("output", model.outputs))
        for spec in listed
    ]
    return _section(
        "Model and files",
        tag("p", model.source, f", opset {model.source_opset}, sha256 ", tag("code", model.fingerprint)),
        _table(("", "name", "dtype", "shape", "layout"), specs),
        tag("h3", "Files"),
        _table(("file", "role", "size#", "sha256"), rows),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _section(title: str, *content: object) -> Html:
    return tag("section", tag("h2", title), *content)


def _folded(title: str, content: Html) -> Html:
    return tag("section", tag("details", tag("summary", title), content))


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """A table; columns whose heading ends in "#" hold numbers and are set to the right."""
    styles = ["right" if column.endswith("#") else None for column in columns]
    heads = [tag("th", column.rstrip("#"), class_=style) for column, style in zip(columns, styles, strict=True)]
    lines = [
        tag(
            "tr",
            [tag("td", value, class_=style) for value, style in zip(row, styles, strict=True)],
        )
        for row in rows
    ]
    return tag("table", tag("thead", tag("tr", heads)) if any(columns) else "", tag("tbody", lines))
