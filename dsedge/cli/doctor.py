"""`dsedge doctor`."""

from __future__ import annotations

from dsedge.cli.options import Json
from dsedge.cli.output import print_json, show


def doctor(json: Json = False) -> None:
    """Show what this machine has: CPU features, runtimes, optional packages, the cache."""
    from dsedge.report.doctor import diagnose, diagnosis

    found = diagnose()
    if json:
        print_json(found.to_json())
    else:
        show(diagnosis(found))
