"""Charts as inline SVG; colors come from the page's style sheet, through classes."""

from __future__ import annotations

from collections.abc import Sequence

from dsedge.report.markup import Html, tag
from dsedge.report.text import number

_WIDTH, _ROW, _BAR = 640, 34, 18
_LABEL, _VALUE = 190, 110


def bars(rows: Sequence[tuple[str, float, float, str]], unit: str) -> Html:
    """Horizontal bars.

    Args:
        rows: label, median, 90th percentile (a thin line behind the bar), CSS class.
        unit: of the numbers.
    """
    longest = max((max(median, p90) for _, median, p90, _ in rows), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    parts = []
    for i, (label, median, p90, style) in enumerate(rows):
        top = i * _ROW + (_ROW - _BAR) / 2
        middle = f"{top + _BAR / 2:.1f}"
        width = max(median * scale, 1.0)
        end = _LABEL + max(p90, median) * scale
        parts += [
            tag("text", label, x=_LABEL - 10, y=middle, class_="label end"),
            tag("line", x1=_LABEL, x2=f"{end:.1f}", y1=middle, y2=middle, class_="whisker"),
            tag("rect", x=_LABEL, y=top, width=f"{width:.1f}", height=_BAR, rx=2, class_=style),
            tag("text", f"{number(median)} {unit}", x=f"{end + 8:.1f}", y=middle, class_="label"),
        ]
    return _svg(len(rows) * _ROW, "; ".join(f"{label} {number(median)} {unit}" for label, median, _, _ in rows), parts)


def stack(parts: Sequence[tuple[str, int, str]]) -> Html:
    """One bar of parts that make up a whole: label, count, CSS class; empty parts are left out."""
    total = sum(count for _, count, _ in parts) or 1
    drawn, legend, left, place = [], [], 0.0, 0.0
    for label, count, style in parts:
        if not count:
            continue
        width = _WIDTH * count / total
        text = f"{label} {count:,} ({100 * count / total:.0f}%)"
        drawn.append(tag("rect", x=f"{left:.1f}", y=0, width=f"{width:.1f}", height=_BAR, class_=style))
        legend += [
            tag("rect", x=f"{place:.1f}", y=_BAR + 12, width=10, height=10, rx=2, class_=style),
            tag("text", text, x=f"{place + 16:.1f}", y=_BAR + 18, class_="label"),
        ]
        left, place = left + width, place + 40 + 7.5 * len(text)
    return _svg(_BAR + 28, ", ".join(f"{label} {count}" for label, count, _ in parts), [*drawn, *legend])


def _svg(height: float, description: str, parts: list[Html]) -> Html:
    return tag("svg", tag("title", description), parts, viewBox=f"0 0 {_WIDTH} {height:.0f}", role="img")
