"""`dsedge check`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain

from dsedge.cli.options import Factory, Json, ModelArgument, Runtime, Shape, Target
from dsedge.cli.output import print_json, show

_REPLACE = "replace these operators in the model"


def check(
    model: ModelArgument,
    target: Target,
    runtime: Runtime = "auto",
    shape: Shape = None,
    factory: Factory = None,
    json: Json = False,
) -> None:
    """Check every operator of a model against what the board's runtimes accept."""
    from dsedge import compiler
    from dsedge.choose import able, choose_options, missing_runtimes, usable_backends
    from dsedge.errors import CheckError
    from dsedge.frontend import load
    from dsedge.frontend.shapes import from_options
    from dsedge.report.doctor import on_device
    from dsedge.report.graph import findings, plan_preview
    from dsedge.report.text import counted
    from dsedge.target import load_target

    board = load_target(target)
    loaded = load(model, shapes=from_options(shape or []), factory=factory)
    found = compiler.check(loaded, board, runtime)
    if all(found.values()):
        if not any(f.op for f in chain(*found.values())):  # no node is to blame: the error is that of `compile`
            backends, absent = usable_backends(board, runtime)
            choose_options(backends, loaded, board, every=False, missing=absent, shaped=bool(shape))
        problems = [
            f"{name}: {f.node} ({f.op}): {f.reason}" if f.op else f"{name}: {f.reason}"
            for name, listed in found.items()
            for f in listed
        ]
        others = able(loaded, board, found)
        raise CheckError(
            "DS201",
            f"{', '.join(found)} on {board.name} cannot run {counted(len(problems), 'node')}",
            where=loaded.source,
            because="\n".join(problems),
            hint=f"{_REPLACE}, or give --runtime {others[0]}, which can run them" if others else _REPLACE,
        )
    plan = compiler.preview(loaded, board, runtime)
    missing = missing_runtimes(board) if runtime == "auto" else {}
    if json:
        listed = {name: [asdict(f) for f in problems] for name, problems in found.items()}
        print_json({"target": board.name, "runtimes": listed, "missing": missing, "plan": plan.to_json()})
    else:
        show(findings(found, missing, on_device(found)))
        show(plan_preview(plan, [name for name, problems in found.items() if not problems]))
