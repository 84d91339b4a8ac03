from __future__ import annotations

import pytest

from dsedge.report.text import counted, number, printable, size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gewichte für 数", "Gewichte für 数"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\udc80", "\\udc80"),
        ("x" * 500, "x" * 397 + "..."),
    ],
)
def test_hostile_text_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_numbers() -> None:
    assert [size(n) for n in (0, 999, 1000, 387_000, 25_600_000, 4.2e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "387 kB",
        "25.6 MB",
        "4.2 GB",
    ]
    assert [number(n) for n in (98.614, 0.01234, 0, -3.0, 1234567, 1e300, None)] == [
        "98.61",
        "0.0123",
        "0",
        "-3",
        "1,234,567",
        "1e+300",
        "not measured",
    ]
    assert (counted(1, "gate"), counted(1797, "sample")) == ("1 gate", "1,797 samples")
