"""HTML and SVG that cannot be broken out of: whatever is not markup made here is shown as it is, on one line."""

from __future__ import annotations

from html import escape

from dsedge.report.text import printable

_VOID = {"meta", "rect", "line"}


class Html(str):
    """Finished markup; a plain string is text and is escaped wherever it goes."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: of the element.
        *children: `Html` stays as it is, anything else is escaped text; lists are taken apart.
        **attributes: values are escaped; `class_` is written `class`, "_" inside of a name as "-"; None leaves it out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{given}>" if name == "meta" else f"<{name}{given}/>")
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Several pieces after each other, escaped where they are not `Html`."""
    pieces: list[str] = []
    for child in children:
        if isinstance(child, list | tuple):
            pieces.append(join(*child))
        else:
            pieces.append(child if isinstance(child, Html) else escape(printable(child)))
    return Html("".join(pieces))
