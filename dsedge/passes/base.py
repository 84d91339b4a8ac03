"""The contract of a pass, and how passes are run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from dsedge.errors import DsedgeError, PassError


class Pass(ir.passes.InPlacePass):
    """One rewriting of a graph in place.

    A subclass implements `call(model)`, which returns `onnx_ir.passes.PassResult(model, modified)`, and where it helps
    `requires(model)` and `ensures(model)`, which raise when the graph is not what the pass needs or promises. Nodes
    come in topological order.

    - `modified` is true only when the graph changed; a second run over its own result changes nothing.
    - The graph computes the same. Inputs and outputs keep their names and order.
    - A node that stays keeps its name, since reports name the nodes of the user's file. A new node takes a name
      derived from those it replaces.
    - Nothing from the file is executed but operators of ONNX, and sizes are bounded before memory is allocated.
    - The docstring is the manual: a line of summary, then the sections What, Why, When not and Cost.

    An instance serves for one run.

    Attributes:
        name: the name in reports and on the command line, by default the module's with hyphens.
        stage: when it runs; passes of the stage "normalize" run on every model.
        notes: places where the pass did not apply and why, one sentence each, filled by `call`.
    """

    name: ClassVar[str]
    stage: ClassVar[str] = "normalize"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__module__.rpartition(".")[2].replace("_", "-")

    def __init__(self) -> None:
        self.notes: list[str] = []


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Attributes:
        name: the name of the pass.
        seconds: wall time.
        changed: whether it changed the graph.
        notes: where it did not apply, and why.
    """

    name: str
    seconds: float
    changed: bool
    notes: tuple[str, ...]


def run(passes: Iterable[type[Pass]], graph: ir.Model) -> list[PassRecord]:
    """Runs passes in order over a graph, in place.

    Raises:
        PassError: DS301, a pass failed; the graph is then in an undefined state.
        DsedgeError: whatever a pass itself reports.
    """
    records = []
    for kind in passes:
        instance, start = kind(), time.perf_counter()
        try:
            changed = instance(graph).modified
        except DsedgeError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            raise PassError(
                "DS301",
                f"the pass {kind.name!r} failed",
                where=kind.name,
                because=f"{type(cause).__name__}: {cause}",
            ) from error
        records.append(PassRecord(kind.name, time.perf_counter() - start, changed, tuple(instance.notes)))
    return records
