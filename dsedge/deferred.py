"""Deferred bundles: what the device needs beside an artifact. Audited and judged is the graph that it builds."""

from __future__ import annotations

from dataclasses import replace

from dsedge.backends.base import Artifact, Finished, Made, finish
from dsedge.bundle import describe
from dsedge.candidate import Candidate, precision
from dsedge.gates import accuracy_gate
from dsedge.portfolio import Entry
from dsedge.steps import Steps
from dsedge.target import Target
from dsedge.verify import FIDELITY_SAMPLES, open_artifact


def finished(entry: Entry, chosen: Candidate, target: Target, steps: Steps) -> tuple[Entry, Candidate, Finished]:
    """Write what the device needs beside an artifact.

    Args:
        entry: what the runtime made of the model.
        chosen: the candidate to ship.
        target: the board.
        steps: the record.

    Returns:
        The entry and the candidate with the audit and the accuracy of the graph that the device builds, and what was
        written into the artifact's folder.
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
    if entry.judge and entry.base.metric and describe(folder, {done.builds: "model"}) != judged:
        with steps("accuracy"):
            metric = entry.judge.compare(entry.base.metric.float, open_artifact(backend, folder / done.builds))
        limit = entry.judge.max_drop
        again = accuracy_gate(metric, limit) if limit is not None else None
        gates = [again if again and gate.name == again.name else gate for gate in chosen.gates]
        told = replace(told, metric=metric, gates=gates)
    tries = [replace(each, found=told) if each.found is chosen else each for each in entry.tries]
    return replace(entry, tries=tries), told, done
