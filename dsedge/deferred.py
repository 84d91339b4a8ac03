"""Deferred bundles: what the device needs beside an artifact. Audited and judged is the graph that it builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dsedge.backends.base import Artifact, Finished, Made, finish
from dsedge.bundle import describe
from dsedge.candidate import Candidate, precision
from dsedge.gates import accuracy_gate
from dsedge.portfolio import Entry
from dsedge.steps import Steps
from dsedge.target import Target
from dsedge.verify import FIDELITY_SAMPLES, fidelity, golden_count, open_artifact, run_all

_OF_THE_DEVICE = ("sqnr_db", "max_abs", "top1_agreement", "equal", "same_lengths")
"""Of the fidelity what tells of the graph that the device builds; the rest is about golden outputs."""


def finished(entry: Entry, chosen: Candidate, target: Target, steps: Steps) -> tuple[Entry, Candidate, Finished]:
    """Write what the device needs beside an artifact.

    Args:
        entry: what the runtime made of the model.
        chosen: the candidate to ship.
        target: the board.
        steps: the record.

    Returns:
        The entry and the candidate with the audit, fidelity and accuracy of the graph that the device builds, and what
        was written into the artifact's folder.
    """
    backend, main = entry.backend, chosen.artifact.main
    folder = main.parent
    judged = describe(folder, {main.name: "model"})
    with steps("finish", changed=True):
        samples = entry.data.head(FIDELITY_SAMPLES)
        done = finish(backend, folder, Made(chosen.graph, entry.floats.graph, chosen.plan, samples), target)
    told = chosen
    if precision(chosen.plan) != "float32":
        with steps("audit"):
            graphs = tuple(folder / name for name, role in done.roles.items() if role == "graph")
            audit = backend.audit(Artifact(main, graphs), chosen.plan, target)
            told = replace(told, audit=audit)
    if describe(folder, {done.builds: "model"}) != judged:
        with steps("accuracy"):
            told = _judged(told, entry, folder / done.builds)
    tries = [replace(each, found=told) if each.found is chosen else each for each in entry.tries]
    return replace(entry, tries=tries), told, done


def _judged(chosen: Candidate, entry: Entry, file: Path) -> Candidate:
    """A candidate with the fidelity and the accuracy of another graph than the one that it was judged by.

    Golden outputs stay the artifact's, unless that is what was written anew.
    """
    base, judge = entry.base, entry.judge
    predict = open_artifact(entry.backend, file)
    got = run_all(predict, base.samples)
    near = fidelity(base.samples, base.outputs, got[: golden_count(base.samples, base.outputs, got)], got)
    if file == chosen.artifact.main:
        chosen = replace(chosen, fidelity=near, outputs=got)
    else:
        update = {name: getattr(near, name) for name in _OF_THE_DEVICE}
        chosen = replace(chosen, fidelity=chosen.fidelity.model_copy(update=update))
    if judge is None or base.metric is None:
        return chosen
    metric = judge.compare(base.metric.float, predict)
    again = accuracy_gate(metric, judge.max_drop) if judge.max_drop is not None else None
    gates = [again if again and gate.name == again.name else gate for gate in chosen.gates]
    return replace(chosen, metric=metric, gates=gates)
