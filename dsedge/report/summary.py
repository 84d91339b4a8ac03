"""What a manifest says, in words: read by the terminal tables and by the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsedge.bundle import CandidateInfo, Fidelity, Gate, Latency, Manifest, Precision, Status
from dsedge.metrics import METRICS, Metric
from dsedge.report.text import counted, number, size

PRECISIONS = {
    "int8": "INT8",
    "int8_dynamic": "INT8 dynamic",
    "int4": "INT4",
    "fp16": "FP16 (stored)",
    "bf16": "BF16",
    "mixed": "mixed",
    "float32": "float",
}


STATUS: dict[Status, str] = {
    "deferred": "the device builds the engine; its graph was verified here",
    "checked": "the device builds the engine; its graph was verified here, and built by the maker's compiler",
    "verified": "it ran on the real runtime, and its outputs were compared",
    "measured": "it was verified and timed on the device",
}


def gate(manifest: Manifest, name: str) -> Gate | None:
    """The gate of that name."""
    return next((g for g in manifest.gates if g.name == name), None)


def outcome(gate: Gate) -> str:
    """pass, FAIL or not measured."""
    return {True: "pass", False: "FAIL", None: "not measured"}[gate.passed]


def value(gate: Gate) -> str:
    """What the gate looked at, in its unit."""
    return "not measured" if gate.value is None else _in_unit(gate, gate.value)


def limit(gate: Gate) -> str:
    """The gate's limit, in its unit."""
    return _in_unit(gate, gate.limit)


def _in_unit(gate: Gate, found: float) -> str:
    if gate.name == "size":
        return size(found)
    if gate.name.endswith("_drop"):
        return lost(gate.name.removesuffix("_drop"), found)
    return number(found)


def _metric(name: str) -> Metric | None:
    """The metric of a name as the manifest has it; None for a function of the user."""
    return METRICS.get(name.partition("@")[0])


def reached(name: str, found: float) -> str:
    """A metric's value, "identical" for the bound that stands for no difference."""
    metric = _metric(name)
    if metric and found == metric.perfect:
        return "identical"
    return f"{number(found)} dB" if metric and metric.unit == "dB" else number(found)


def lost(name: str, drop: float) -> str:
    """A metric's drop, in its unit."""
    metric = _metric(name)
    return f"{number(drop)} {metric.drop_unit or metric.unit}" if metric else number(drop)


def metrics(manifest: Manifest) -> list[str]:
    """Each metric of the float model and of the artifact; of the float artifact its own alone."""
    if is_float(manifest):
        return [f"{m.name} {reached(m.name, m.float)}, the float artifact's" for m in manifest.metrics]
    return [f"{m.name} {reached(m.name, m.float)} -> {reached(m.name, m.quantized)}" for m in manifest.metrics]


def is_float(manifest: Manifest) -> bool:
    """Whether the artifact is the float one, which all others are compared with."""
    return manifest.precision.precision == "float32"


def verdict(manifest: Manifest) -> str:
    """One sentence on the gates; what was not measured is never counted as a pass."""
    passed = sum(g.passed is True for g in manifest.gates)
    if manifest.failed:
        return f"{counted(len(manifest.failed), 'gate')} of {len(manifest.gates)} failed: " + ", ".join(
            g.name for g in manifest.failed
        )
    if passed == len(manifest.gates):
        return f"all {counted(passed, 'gate')} pass" if passed != 1 else "the gate passes"
    return f"{passed} of {counted(len(manifest.gates), 'gate')} pass, {len(manifest.gates) - passed} not measured"


def target(manifest: Manifest) -> str:
    """The board; a short name is resolved aloud: "raspberry-pi -> raspberry-pi-5"."""
    name, board = manifest.target.name, manifest.target.board
    return board if name == board else f"{name} -> {board}"


def runtime(manifest: Manifest) -> str:
    """The runtime and its version; of a deferred bundle only the device has one."""
    found = manifest.runtime
    return f"{found.name} {found.version}" if found.version else f"{found.name} on the device"


def precision(manifest: Manifest) -> str:
    """The precision of the artifact as a whole, and the request where it was not plain INT8."""
    found = manifest.precision
    return _kind(found.precision, found) + ("" if found.asked == "int8" else f", asked for: {found.asked}")


def element(spec: Mapping[str, Any]) -> str:
    """The element type of an input or output of the artifact; of codes with scale and zero point."""
    if spec.get("scale") is None:
        return str(spec.get("dtype"))
    return f"{spec['dtype']}, scale {number(spec['scale'])}, zero point {spec['zero_point']}"


def interface(specs: Sequence[Mapping[str, Any]]) -> str:
    """Inputs or outputs of the artifact: "x: float32, 1 x 28 x 28 x 1 NHWC; ..."."""
    return "; ".join(
        f"{spec.get('name')}: {element(spec)}, {shape(spec.get('shape'))} {spec.get('layout') or ''}".rstrip()
        for spec in specs
    )


def shape(axes: Sequence[object] | None) -> str:
    """The lengths of the axes: "1 x 3 x ?"."""
    return "unknown" if axes is None else " x ".join("?" if d is None else str(d) for d in axes) or "scalar"


def artifact_bytes(manifest: Manifest) -> int:
    """Bytes of the artifact: all files with the role "model"."""
    return sum(f.bytes for f in manifest.files if f.role == "model")


def sizes(manifest: Manifest) -> str:
    """Size of the float model and of the artifact; of an engine, which the device builds, nothing is known."""
    before, after = manifest.float_bytes, artifact_bytes(manifest)
    ratio = f" (x{before / after:.1f})" if 0 < after < before else ""
    graph = ", of the graph, not of the engine" if manifest.deferred else ""
    return f"{size(before)} -> {size(after)}{ratio}{graph}"


def accuracy(manifest: Manifest) -> list[str]:
    """A line for each metric: float -> compiled, drop, samples."""
    return [
        text
        + ("" if is_float(manifest) else f", drop {lost(m.name, m.drop)}")
        + ("" if m.samples is None else f", {counted(m.samples, 'sample')}")
        for text, m in zip(metrics(manifest), manifest.metrics, strict=True)
    ]


def latencies(manifest: Manifest) -> tuple[Latency | None, Latency | None]:
    """The latency of the fastest float artifact of all runtimes, and the artifact's."""
    of_float = next((x for x in manifest.latency if x.precision.startswith("float")), None)
    compiled = next((x for x in manifest.latency if not x.precision.startswith("float")), None)
    return of_float, of_float if is_float(manifest) else compiled


def latency(manifest: Manifest) -> str:
    """Median latency of the fastest float artifact and of this one, or why there is none.

    The float one's runtime is named where it is another one: sizes are compared with this runtime's own.
    """
    of_float, compiled = latencies(manifest)
    if compiled is None:
        found = gate(manifest, "latency_vs_float")
        note = found.note.removeprefix("not measured here: ") if found else ""
        return f"not measured here: {note}" if note else "not measured here"
    if of_float is None or of_float is compiled:
        return f"{number(compiled.median_ms)} ms"
    ratio = f" (x{of_float.median_ms / compiled.median_ms:.2f})" if compiled.median_ms > 0 else ""
    before, after = number(of_float.median_ms), number(compiled.median_ms)
    if of_float.runtime != compiled.runtime:
        return f"{before} ms ({of_float.runtime} float) -> {after} ms{ratio}"
    return f"{before} -> {after} ms{ratio}"


def filled(found: Sequence[tuple[CandidateInfo, Sequence[str]]]) -> list[int]:
    """The columns of the table of all artifacts in which a row has something to say."""
    return [i for i in range(len(CANDIDATES)) if any(cells[i] for _, cells in found)]


def candidates(manifest: Manifest) -> list[tuple[CandidateInfo, tuple[str, ...]]]:
    """The table of all artifacts, where there are several: each with its cells, see `CANDIDATES`."""
    if len(manifest.candidates) < 2:
        return []
    return [
        (
            row,
            (
                f"{row.runtime} {row.version}".strip(),
                _kind(row.precision, manifest.precision),
                "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
                "" if row.metric is None else reached(row.metric.name, row.metric.quantized).removesuffix(" dB"),
                "" if row.median_ms is None else number(row.median_ms),
                "" if row.iqr_ms is None else number(row.iqr_ms),
                "" if row.bytes is None else size(row.bytes),
                f"{row.error['code']}: {row.error['what']}" if row.error else row.reason,
            ),
        )
        for row in manifest.candidates
    ]


def costs(manifest: Manifest, shown: int) -> str:
    """The operators that cost the most, by the runtime's own profiler; "" where nothing was timed."""
    if manifest.latency and not manifest.costs:
        return f"not known: {manifest.runtime.name} has no profiler"
    return ", ".join(
        f"{x.op} {counted(x.operators, 'operator') if x.operators > 1 else repr(x.node)} {100 * x.share:.0f}%"
        for x in manifest.costs[:shown]
    )


CANDIDATES = ("runtime", "precision", "SQNR dB#", "accuracy#", "ms#", "IQR#", "size#", "because")


def computed(found: Precision) -> list[tuple[str, int]]:
    """How many operators are not plain float, by precision."""
    return [
        ("INT8", found.int8_ops),
        ("INT4", found.int4_ops),
        ("BF16", found.bf16_ops),
        (_kind("fp16", found), found.fp16_ops),
    ]


def _kind(name: str, found: Precision) -> str:
    """A precision for people; float16 is what weights are stored in, or what is computed in."""
    return "FP16" if name == "fp16" and found.fp16_computed else PRECISIONS.get(name, name)


def operators(manifest: Manifest) -> str:
    """How many operators run in INT8, and whether the runtime itself was asked."""
    found = manifest.precision
    counts = ", ".join(f"{count} of {found.total_ops} in {kind}" for kind, count in computed(found) if count)
    counts = counts or f"{found.total_ops} in float"
    return counts if found.audited else f"{counts} as planned, not audited here"


def _near(found: Fidelity) -> list[str]:
    """How near floats are, and how many of all other values are equal."""
    equal = "" if found.equal is None else f"{100 * found.equal:.1f}% of non-float values equal"
    if found.sqnr_db is not None:
        near = [f"SQNR {found.sqnr_db:.1f} dB", f"max abs difference {number(found.max_abs)}"]
        return [*near, *([equal] if equal else [])]
    return ["identical outputs"] if found.equal in (None, 1.0) else [equal]


def fidelity(manifest: Manifest) -> str:
    """How near the outputs are to the float model's."""
    found = manifest.fidelity
    if found is None:
        return "not compared"
    if is_float(manifest):
        return "identical: the float artifact is what all others are compared with"
    if not found.same_lengths:
        return f"not comparable: in {counted(found.samples, 'sample')} an output has another length than float's"
    parts = _near(found)
    if found.same_lengths < 1:
        parts.append(f"lengths as float's in {100 * found.same_lengths:.0f}% of samples, compared in those")
    if steps := [s for s in found.golden_steps if s is not None]:
        worst, exact = max(s.max for s in steps), 100 * min(s.exact for s in steps)
        off = f"{worst} LSB at most from its own Q/DQ graph, {exact:.1f}% exact"
        parts.append(off if worst else "equal to its own Q/DQ graph")
    if found.top1_agreement is not None:
        parts.append(f"top-1 agreement {100 * found.top1_agreement:.1f}%")
    noise = " of random noise" if found.source == "random" else ""
    return ", ".join([*parts, counted(found.samples, "sample") + noise])
