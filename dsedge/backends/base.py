"""What a backend is: a module with these names.

A backend is one file or folder in this package, or a module that an entry point of the group `dsedge.backends` names.
It never decides what to quantize: it states a contract, and turns a Q/DQ graph that keeps it into an artifact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

from dsedge.errors import BuildError, LoadError, did_you_mean
from dsedge.resources import entry_points

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from dsedge.bundle import Latency, Role, Status
    from dsedge.data import Batch, Feeds
    from dsedge.quant.contract import Contract
    from dsedge.quant.plan import QuantPlan
    from dsedge.target import Target

Predict = Callable[["Feeds"], list["np.ndarray"]]
"""From arrays by input name to the outputs in the model's order."""

ENTRY_POINTS = "dsedge.backends"


@dataclass(frozen=True)
class Finding:
    """A node that the runtime cannot run, with the reason."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Artifact:
    """What a backend built, all in one folder.

    Attributes:
        main: the file that is loaded.
        others: files that must lie beside it.
    """

    main: Path
    others: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, the main one first."""
        return (self.main, *self.others)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class Audit:
    """What a runtime really made of an artifact.

    Attributes:
        performed: False when this machine cannot tell; the counts are then the plan's.
        summary: one sentence for people.
        int8_ops, float_ops: operators that compute in INT8 and in float.
        unmatched: node -> reason, for nodes that were planned as INT8, INT4 or bfloat16 and run in float32.
        int4_ops: operators that compute on INT4 weights.
        bf16_ops: operators that compute in bfloat16.
        lowered: node -> the operators of the artifact that it became, where they are others than the graph's
            ("CONV_2D"); empty where the artifact is the graph itself.
    """

    performed: bool
    summary: str
    int8_ops: int
    float_ops: int
    unmatched: dict[str, str]
    int4_ops: int = 0
    bf16_ops: int = 0
    lowered: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What an operator of an artifact takes.

    Attributes:
        node: as the runtime names it, which may have fused it with others.
        op: the runtime's operator.
        ms: median time of a run, in milliseconds; 0 where it is done in place.
        nodes: names of the graph's nodes that it is made of, or of their outputs, as far as the runtime tells. Names
            that the graph does not have may be among them.
        reads: the operators that write what it reads, by their `node`.
    """

    node: str
    op: str
    ms: float
    nodes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceRun:
    """What a device reported of a deferred bundle.

    Attributes:
        status: what the bundle is by that.
        summary: a line for each finding, for people.
        version: of the runtime there.
        latency: of the artifact, and then of float artifacts that it was compared with; the first of them judges it.
    """

    status: Status
    summary: tuple[str, ...]
    version: str = ""
    latency: tuple[Latency, ...] = ()


@dataclass(frozen=True)
class Made:
    """What the files of a deferred bundle are made from, for a backend's `finish(folder, made, target)`.

    That function writes what the device needs beside the artifact, which lies in the folder already, and returns
    `Finished`.

    Attributes:
        graph: the Q/DQ graph of the artifact; float where the float artifact is shipped.
        floats: the normalized float graph.
        plan: what is quantized.
        samples: calibration samples, as the artifact takes them.
    """

    graph: ir.Model
    floats: ir.Model
    plan: QuantPlan
    samples: Sequence[Batch]


@dataclass(frozen=True)
class Finished:
    """What a deferred bundle has beside its artifact.

    Attributes:
        roles: of each file that was written, by name.
        notes: for a reader.
        builds: the file of the graph that the device builds from: the artifact's, or one of those.
    """

    roles: Mapping[str, Role]
    notes: Sequence[str]
    builds: str


class Backend(Protocol):
    """The names that a backend module has.

    Where an artifact is no ONNX file there is one more, for `dsedge inspect`: `operators(path: Path) ->
    list[tuple[str, str]]`, type and precision of each operator. Where the artifact is finished on the device there are
    four more: `DEFERRED = True`, `finish` (see `Made`), `result` (see `device_result`) and `complete` (see the
    function). `load` then opens the graph that the device finishes on the reference runtime: what is verified here is
    that graph.

    Attributes:
        NAME: as targets list it.
        EXTRA: the pip extra that brings its packages, "" when the core has them.
        RUNNER: the stand-alone script that runs its artifacts on a device.
    """

    NAME: str
    EXTRA: str
    RUNNER: Path

    def version(self) -> str | None:
        """The installed version of the runtime, None when it is missing, or is needed on the device only."""

    def contract(self, target: Target) -> Contract:
        """What the runtime accepts on a board."""

    def unsupported(self, model: ir.Model) -> list[Finding]:
        """All nodes that the runtime cannot run, bodies of control flow included."""

    def prepare(self, model: ir.Model) -> ir.Model:
        """Write a float graph in operators that the runtime has INT8 kernels for, where that is faster.

        It computes the same in float. Nodes that stay keep their names; a new one says in its metadata `REPLACES`
        which it stands for. The model itself is returned when there is nothing to do, else a copy.
        """

    def build(self, model: ir.Model, folder: Path) -> Artifact:
        """Write the artifact of a float or Q/DQ graph, at the canonical opset or above, into a folder."""

    def load(self, path: Path, threads: int | None = None) -> Predict:
        """Open the main file of an artifact as the device does: a function from feeds to all outputs.

        Where the runtime can tell what it was configured with, the function's attribute `conditions` holds it by name:
        a latency is recorded with it.
        """

    def audit(self, artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
        """Load an artifact, and find what really runs in INT8."""


def profile(backend: Backend, artifact: Artifact, feeds: Feeds, threads: int) -> list[Cost]:
    """What each operator of an artifact costs, the most first; nothing where the runtime has no profiler.

    A backend module that has one has a function `profile(path, feeds, threads)`, where `path` is the main file.
    """
    found: Callable[[Path, Feeds, int], list[Cost]] = getattr(backend, "profile", lambda path, feeds, threads: [])
    return sorted(found(artifact.main, feeds, threads), key=lambda cost: cost.ms, reverse=True)


def alternatives(backend: Backend, target: Target, graph: ir.Graph) -> tuple[str, ...]:
    """Precisions that a runtime tries beside INT8 where all runtimes race.

    A backend module that has some has a function `alternatives(target, graph)`, which names them as `--precision` does;
    the graph is the normalized float model.
    """
    found: Callable[[Target, ir.Graph], tuple[str, ...]] = getattr(backend, "alternatives", lambda target, graph: ())
    return found(target, graph)


def is_deferred(backend: Backend) -> bool:
    """Whether artifacts are finished on the device."""
    return bool(getattr(backend, "DEFERRED", False))


def is_ready(backend: Backend) -> bool:
    """Whether bundles can be made and opened here: a deferred one needs nothing of its runtime."""
    return is_deferred(backend) or backend.version() is not None


def finish(backend: Backend, folder: Path, made: Made, target: Target) -> Finished:
    """Write what the device finishes an artifact of a deferred backend with."""
    found: Callable[[Path, Made, Target], Finished] = backend.finish  # type: ignore[attr-defined]
    return found(folder, made, target)


def device_result(backend: Backend, folder: Path) -> DeviceRun | None:
    """What a device reported of a deferred bundle, None when it did not yet.

    Raises:
        DsedgeError: the report is damaged, about another bundle, or says that the outputs are off.
    """
    found: Callable[[Path], DeviceRun | None] = backend.result  # type: ignore[attr-defined]
    return found(folder)


def complete(backend: Backend, folder: Path, target: Target) -> tuple[DeviceRun | None, list[str]]:
    """Finish a deferred bundle where this machine is its device: what it reported, None elsewhere, and notes.

    Raises:
        DsedgeError: the artifact was finished here, and does not do what its graph does.
    """
    found: Callable[[Path, Target], tuple[DeviceRun | None, list[str]]] = backend.complete  # type: ignore[attr-defined]
    return found(folder, target)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, None when it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def available() -> dict[str, str]:
    """Name of each backend -> the module that holds it; nothing is imported."""
    package = Path(__file__).parent
    found = {
        m.name: f"dsedge.backends.{m.name}"
        for m in iter_modules([str(package)])
        if m.name != "base" and not m.name.startswith("_")
    }
    return {e.name: e.value for e in entry_points(group=ENTRY_POINTS)} | found


def load_backend(name: str) -> Backend:
    """Import a backend.

    Raises:
        LoadError: DS144 when there is no backend of that name.
    """
    modules = available()
    if name not in modules:
        raise LoadError("DS144", f"there is no backend for the runtime {name!r} yet", hint=did_you_mean(name, modules))
    try:
        return cast(Backend, import_module(modules[name]))
    except ImportError as error:
        raise LoadError(
            "DS144",
            f"the backend for the runtime {name!r} does not load",
            where=modules[name],
            because=str(error),
            hint="`dsedge doctor` lists what is missing",
        ) from error


def installed_backend(name: str) -> Backend:
    """Import a backend whose runtime is to run here.

    Raises:
        LoadError: DS144 when there is no backend of that name.
        BuildError: DS402 when its runtime is not installed, and is needed here.
    """
    backend = load_backend(name)
    if not is_ready(backend):
        raise BuildError("DS402", f"{name} is not installed", hint=pip_line(backend))
    return backend


def pip_line(backend: Backend) -> str:
    """What installs the runtime of a backend."""
    return f"pip install 'dsedge[{backend.EXTRA}]'" if backend.EXTRA else "pip install dsedge"
