"""What a device reported of a deferred bundle, taken into its manifest.

At once where this machine is the device, else when `dsedge verify` finds the report that was copied back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dsedge.backends.base import Backend, DeviceRun, complete
from dsedge.bundle import MANIFEST, Bundle, Gate, Latency, describe, write_manifest
from dsedge.errors import BundleError
from dsedge.gates import LATENCY_VS_FLOAT
from dsedge.report.html import render
from dsedge.steps import Steps
from dsedge.target import Target

REPORT = "report.html"


def complete_here(folder: Path, backend: Backend, target: Target, steps: Steps) -> None:
    """Let a backend finish the bundle in a folder where this machine is the device; elsewhere it stays as it is.

    Raises:
        DsedgeError: the artifact was finished and does not do what it did before.
        BundleError: DS802 when the bundle cannot be written.
    """
    with steps("complete", changed=True):
        run, notes = complete(backend, folder, target)
    bundle = Bundle(folder)
    if run or notes:
        _rewrite(bundle, {**_told(bundle, run), "notes": [*bundle.manifest.notes, *notes], "passes": steps.records})


def take_in(bundle: Bundle, run: DeviceRun) -> None:
    """Write what the device reported into the manifest and the report of a bundle, if they do not say so yet.

    Raises:
        BundleError: DS802 when the bundle cannot be written.
    """
    update = _told(bundle, run)
    if any(getattr(bundle.manifest, name) != value for name, value in update.items()):
        _rewrite(bundle, update)


def _told(bundle: Bundle, run: DeviceRun | None) -> dict[str, Any]:
    if run is None:
        return {}
    manifest = bundle.manifest
    runtime = manifest.runtime.model_copy(update={"version": run.version})
    found = {"status": run.status, "runtime": runtime}
    if run.status != "measured":  # times of another device say nothing about the target's gates
        return found
    gates = [_judged(gate, run.latency) for gate in manifest.gates]
    return {**found, "latency": list(run.latency), "gates": gates}


def _rewrite(bundle: Bundle, update: dict[str, Any]) -> None:
    manifest = bundle.manifest.model_copy(update=update)
    others = [info for info in manifest.files if info.role != "report"]
    try:
        plan = json.loads(bundle.file("plan").read_text(encoding="utf-8"))
        with TemporaryDirectory(dir=bundle.path, prefix=".") as folder:
            new = Path(folder)
            (new / REPORT).write_text(render(manifest, plan), encoding="utf-8")
            write_manifest(new, manifest.model_copy(update={"files": [*others, *describe(new, {REPORT: "report"})]}))
            for name in (REPORT, MANIFEST):
                (new / name).replace(bundle.path / name)
    except OSError as error:
        because = error.strerror or str(error)
        raise BundleError("DS802", "the bundle cannot be written", where=str(bundle.path), because=because) from error


def _judged(gate: Gate, rows: Sequence[Latency]) -> Gate:
    """A gate of latency with its value, by the artifact's own row and that of the float artifact behind it."""
    known = {"latency_ms": rows[0].median_ms}
    if len(rows) > 1:
        known[LATENCY_VS_FLOAT] = rows[0].median_ms / rows[1].median_ms
    value = known.get(gate.name)
    if value is None:
        return gate
    return gate.model_copy(update={"value": value, "passed": value <= gate.limit, "note": ""})
