"""`dsedge doctor`: what this machine has, what is missing, and the line that installs it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Group, RenderableType

from dsedge import cache
from dsedge.backends.base import available, is_deferred, load_backend, pip_line
from dsedge.report.terminal import facts, table
from dsedge.target import host_isa

# Extra of the package -> its distributions, the one whose version is shown first, and what it is for.
EXTRAS = {
    "torch": ("torch onnxscript safetensors", "compiling nn.Module, training passes"),
    "images": ("pillow", "calibration from folders of images"),
    "metrics": ("pycocotools", "mAP"),
    "tensorrt-rtx": ("tensorrt-rtx", "checking TensorRT graphs without a GPU"),
    "simplify": ("onnxsim onnxslim onnxscript", "--simplify onnxsim, onnxslim and onnxscript"),
}


@dataclass(frozen=True)
class Part:
    """A backend or an extra: its version, or why it is not there and what to do."""

    name: str
    purpose: str
    version: str | None
    hint: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found on this machine."""

    dsedge: str
    python: str
    platform: str
    architecture: str
    features: tuple[str, ...]
    cache: str
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as plain data."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine; nothing that is missing is an error."""
    architecture, features = host_isa()
    return Diagnosis(
        dsedge=_version("dsedge") or "not installed",
        python=platform.python_version(),
        platform=platform.platform(),
        architecture=architecture,
        features=tuple(sorted(features)),
        cache=str(cache.folder()),
        parts=(
            *(_backend(name) for name in sorted(available())),
            *(_extra(name, packages.split(), purpose) for name, (packages, purpose) in EXTRAS.items()),
        ),
    )


def _backend(name: str) -> Part:
    try:
        backend = load_backend(name)
        found = backend.version()
    except Exception as error:  # a backend of another package may fail in any way
        return Part(name, "runtime", None, f"it does not load: {type(error).__name__}: {error}")
    if is_deferred(backend):
        return Part(name, "runtime", found or "on the device", "")
    return Part(name, "runtime", found, "" if found else pip_line(backend))


def on_device(names: Iterable[str]) -> dict[str, str]:
    """Those of the runtimes that finish artifacts on the device, and which package checks their graphs here."""
    backends = [load_backend(name) for name in names if name in available()]
    return {b.NAME: f"built on the device{_checked_by(b.EXTRA)}" for b in backends if is_deferred(b)}


def _checked_by(extra: str) -> str:
    if extra not in EXTRAS:
        return ""
    packages, purpose = EXTRAS[extra]
    part = _extra(extra, packages.split(), purpose)
    return f"; {purpose}: {extra} {part.version}" if part.version else f"; {purpose}: not here ({part.hint})"


def _extra(name: str, packages: list[str], purpose: str) -> Part:
    """Ready when all of its packages are there: a version is never shown beside one that is missing."""
    missing = [package for package in packages if _version(package) is None]
    if not missing:
        return Part(name, purpose, _version(packages[0]), "")
    partly = f" ({', '.join(missing)} missing)" if len(missing) < len(packages) else ""
    return Part(name, purpose, None, f"pip install 'dsedge[{name}]'{partly}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def diagnosis(found: Diagnosis) -> RenderableType:
    """What `dsedge doctor` prints."""
    head = facts(
        [
            ("dsedge", found.dsedge),
            ("python", found.python),
            ("platform", found.platform),
            ("cpu", f"{found.architecture} with {' '.join(found.features) or 'no known features'}"),
            ("cache", found.cache),
        ]
    )
    rows = ((p.name, p.version or "missing", p.purpose, p.hint) for p in found.parts)
    return Group(head, table(("part", "version", "what for", "to do"), rows))
