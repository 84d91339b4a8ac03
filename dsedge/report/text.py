"""Words and numbers for people, the same in the terminal and in HTML."""

from __future__ import annotations

_LIMIT = 400


def printable(value: object) -> str:
    """Text that may come from a hostile file, made safe for one line of a terminal.

    Everything that is not printable (control characters, escape sequences, line breaks, changes of direction, lone
    surrogates) is written as its Python escape, and what is longer than 400 characters is cut.
    """
    text = str(value)
    if len(text) > _LIMIT:
        text = text[: _LIMIT - 3] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(count: float) -> str:
    """Bytes in decimal units: "382 kB", "25.6 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:,.3g} GB"


def number(value: float | None) -> str:
    """A number with as many digits as people compare: "98.61", "0.0123", "not measured" for None."""
    if value is None:
        return "not measured"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if 1 <= abs(value) < 1e15 else f"{value:.3g}"


def signed(value: float) -> str:
    """A number with its sign, zero without one."""
    return number(value) if value <= 0 else f"+{number(value)}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 sample", "1,797 samples"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
