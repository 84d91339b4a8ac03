"""What a device reported, as `dsedge verify` shows it."""

from __future__ import annotations

from pathlib import Path

from dsedge.backends.base import DeviceRun
from dsedge.backends.tensorrt.result import RESULT, DeviceResult, read_result


def result(folder: Path) -> DeviceRun | None:
    """The device's report in a bundle, None when there is none yet.

    Raises:
        BundleError: DS803 when it is damaged, or about another bundle.
        VerifyError: DS501 when the golden outputs that it reports are off.
    """
    if not (folder / RESULT).exists():
        return None
    found = read_result(folder)
    return DeviceRun(found.status, tuple(_lines(found)))


def _lines(found: DeviceResult) -> list[str]:
    gpu = f"{found.gpu.name} (compute capability {found.gpu.compute_capability})"
    planned = len(found.int8) + len(found.not_int8)
    lines = [
        f"TensorRT {found.tensorrt} on {gpu}: {found.status}",
        f"{len(found.int8)} of {planned} planned products run in INT8",
        *(f"{node} does not: {what}" for node, what in found.not_int8.items()),
    ]
    for kind, times in found.latency.items():
        alone, copied = times.device.median_ms, times.host.median_ms
        lines.append(f"{kind}: median {alone:.3f} ms on the GPU, {copied:.3f} ms with copies, {times.host.runs} runs")
    return [*lines, *(f"warning: {text}" for text in found.warnings)]
