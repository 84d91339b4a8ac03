"""Passes over the float graph: one file a pass, found by its name.

A pass is the one `Pass` subclass that its module defines. `discover` looks through the modules of this package and
through the entry points of the group `dsedge.passes`, so a pass of a third party needs no change here.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil

from dsedge.errors import PassError
from dsedge.passes.base import Pass, PassRecord, run
from dsedge.resources import entry_points

__all__ = ["Pass", "PassRecord", "discover", "run"]

# onnx_ir warns about graphs that it leaves unchanged; without a handler Python prints that to the user's terminal.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


def discover() -> dict[str, type[Pass]]:
    """All passes by name: those of this package in alphabetical order, then those of entry points.

    Raises:
        PassError: DS301, an entry point cannot be imported, is no `Pass`, or has a name that is taken.
    """
    found: dict[str, type[Pass]] = {}
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Pass) and kind.__module__ == module.name and not inspect.isabstract(kind):
                found[kind.name] = kind
    for point in entry_points(group="dsedge.passes"):
        try:
            kind = point.load()
        except Exception as error:
            raise _refused(point.value, f"{type(error).__name__}: {error}") from error
        if not (inspect.isclass(kind) and issubclass(kind, Pass)):
            raise _refused(point.value, "it is not a subclass of dsedge.passes.Pass")
        if kind.name in found:
            raise _refused(point.value, f"a pass named {kind.name!r} is there already")
        found[kind.name] = kind
    return found


def _refused(entry_point: str, because: str) -> PassError:
    return PassError(
        "DS301",
        "an installed pass cannot be used",
        where=entry_point,
        because=because,
        hint="update or uninstall the package that brings it",
    )
