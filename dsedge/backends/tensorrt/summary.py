"""What a device reported, as `dsedge verify` shows it."""

from __future__ import annotations

from pathlib import Path

from dsedge.backends.base import DeviceRun
from dsedge.backends.tensorrt.result import RESULT, DeviceResult, read_result
from dsedge.bundle import Latency


def result(folder: Path) -> DeviceRun | None:
    """The device's report in a bundle, None when there is none yet.

    Raises:
        BundleError: DS803 when it is damaged, or about another bundle.
        VerifyError: DS501 when the golden outputs that it reports are off.
    """
    if not (folder / RESULT).exists():
        return None
    found = read_result(folder)
    return DeviceRun(found.status, tuple(_lines(found)), found.tensorrt, tuple(_latency(found)))


def _lines(found: DeviceResult) -> list[str]:
    gpu = f"{found.gpu.model or found.gpu.name} (compute capability {found.gpu.compute_capability})"
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in found.timing.shapes.items())
    planned = len(found.int8) + len(found.not_int8) + len(found.unknown)
    lines = [
        f"TensorRT {found.tensorrt} on {gpu}: {found.status}",
        f"{len(found.int8)} of {planned} planned products run in INT8",
        *(f"{node} does not: {what}" for node, what in found.not_int8.items()),
        *(f"{node}: it cannot be told: {why}" for node, why in found.unknown.items()),
    ]
    for kind, times in found.latency.items():
        alone, copied = times.device.median_ms, times.host.median_ms
        lines.append(f"{kind}: median {alone:.3f} ms on the GPU, {copied:.3f} ms with copies, {times.host.runs} runs")
    lines.append(f"timed with {inputs}")
    if found.dla.core is not None:
        lines.append(f"DLA core {found.dla.core}: {found.dla.on_dla} layers, the GPU {found.dla.on_gpu}; unverified")
    if found.tf32:
        lines.append("float32 products may have been rounded to TF32")
    return [*lines, *(f"warning: {text}" for text in found.warnings)]


def _latency(found: DeviceResult) -> list[Latency]:
    """On the GPU alone; engines that it was compared with are called float, that in float16 first."""
    own = next(iter(found.latency))
    conditions = {**found.conditions["before"], "tf32": found.tf32, "covers": found.timing.device}
    return [
        Latency(
            runtime="tensorrt",
            precision=kind if kind == own else f"float{kind[2:]}",
            median_ms=times.device.median_ms,
            p90_ms=times.device.p90_ms,
            iqr_ms=None,
            runs=times.device.runs,
            threads=1,
            where=found.gpu.name,
            conditions=conditions,
        )
        for kind, times in found.latency.items()
    ]
