"""What a deferred bundle says to the scripts that finish it on the device: `build.json`, and the scripts themselves.

The schema of `build.json` is written down once, in `device/build.py`, which reads it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from dsedge.backends.tensorrt.capability import capability
from dsedge.bundle import sha256
from dsedge.errors import BundleError, LoadError
from dsedge.target import Target

SETTINGS, LINES = "build.json", "build.conf"
MOST_BYTES = 16 * 2**20
SCRIPTS: Mapping[str, Path] = {
    "run.py": Path(__file__).parents[2] / "bench" / "runner.py",
    **{
        name: Path(__file__).with_name("device") / name
        for name in (
            "build.py",
            "build.sh",
            "verify.py",
            "trt_builder.py",
            "trt_conditions.py",
            "trt_cuda.py",
            "trt_files.py",
            "trt_floats.py",
            "trt_layers.py",
            "trt_rules.py",
            "trt_runtime.py",
            "trt_target.py",
        )
    },
}
"""File in the bundle -> where it comes from."""

Kind = Literal["int8", "fp16", "bf16", "fp32", "int4"]
Axis = Annotated[int, Field(ge=0, le=2**31 - 1)]
File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f']{1,500}$")]
"""A tensor's name that a command line of trtexec can hold: no control characters, no single quote."""

_RANGE = r"^(==|!=|<=|>=|<|>|~=)\d[\w.*]*(,(==|!=|<=|>=|<|>|~=)\d[\w.*]*)*$"
_UNSAFE = re.compile(r"[:,\s]")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Graph(_Record):
    """A graph of the bundle and what it may be built as.

    Attributes:
        file: its name in the bundle.
        precision: of the engine.
        typing: "weak" where builder flags say which precisions are allowed (TensorRT 8.5 to 10): such a graph is in
            float32. "strong" where the graph says all of them (10 and 11). A graph without flags is both.
        golden_sqnr_db: what it reached on the golden samples, as `Fidelity.golden_sqnr_db` of the manifest; None where
            that is of this graph.
        sha256: of the file, filled in by `write_settings`.
    """

    file: File
    precision: Kind
    typing: Literal["weak", "strong"]
    golden_sqnr_db: list[Annotated[float, Field(allow_inf_nan=False)] | None] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = "0" * 64

    @model_validator(mode="after")
    def _has_a_flag(self) -> Self:
        if self.typing == "weak" and self.precision == "int4":
            raise ValueError(f"{self.precision} needs a strongly typed graph")
        return self


class Profile(_Record):
    """The least, usual and greatest shape of an input with open axes."""

    min: list[Axis]
    opt: list[Axis]
    max: list[Axis]

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError("min, opt and max must have as many axes")
        if not all(a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError("min, opt and max must not shrink on any axis")
        return self


class TargetFacts(_Record):
    """Of the board, by which `device/trt_target.py` tells it from others.

    Attributes:
        name: of the target.
        compute_capability: of its GPU.
        device_name: a part of what the device calls itself; None: nothing is measured on it.
        memory_mib: that the GPU can use, its own or the system's; None: any.
        tensorrt: the versions that the board has, a PEP 440 range; None: any.
    """

    name: File
    compute_capability: Annotated[str, StringConstraints(pattern=r"^\d+\.\d$")]
    device_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    memory_mib: Annotated[int, Field(gt=0)] | None = None
    tensorrt: Annotated[str, StringConstraints(pattern=_RANGE, max_length=200)] | None = None


class Settings(_Record):
    """`build.json`; the fields are described in `device/build.py`."""

    schema_: Literal[1] = Field(alias="schema")
    target: TargetFacts
    precision: Kind
    graphs: Annotated[list[Graph], Field(min_length=1)]
    outputs: Annotated[list[str], Field(min_length=1)]
    dynamic: list[Name] = []
    profiles: dict[Name, Profile] = {}
    workspace_mib: Annotated[int, Field(ge=1, le=2**20)] | None = None
    sparsity: bool = False
    tf32: bool = True
    fp16: bool = True
    float32_nodes: list[str] = []
    int8_nodes: list[str] = []

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.precision not in {graph.precision for graph in self.graphs}:
            raise ValueError(f"none of the graphs is for {self.precision}")
        if self.precision == "fp16" and not self.fp16:
            raise ValueError("an engine in fp16 computes in float16")
        outputs = {len(g.golden_sqnr_db) for g in self.graphs if g.golden_sqnr_db is not None}
        if outputs - {len(self.outputs)}:
            raise ValueError("golden_sqnr_db of a graph is one number for each output")
        if len(set(self.dynamic)) < len(self.dynamic):
            raise ValueError("an input is named twice in dynamic")
        if set(self.dynamic) != set(self.profiles):
            named = ", ".join(sorted(set(self.dynamic) ^ set(self.profiles)))
            raise ValueError(f"an input with open axes needs a profile, and no other has one: {named}")
        return self

    def lines(self) -> str:
        """The same as `build.conf`: a keyword and its values in each line, for a shell, which builds no others.

        Where a node must stay in float32 all do ("half 0"): trtexec finds a layer by its whole name, and a node can
        become several of which only the first has the node's (`setLayerPrecisions` in TensorRT 8.5's
        `sampleEngines.cpp`).
        """
        own = [g for g in self.graphs if g.precision == self.precision]
        graphs = [("graph", f"{g.precision} {g.typing} {g.sha256} {g.file}") for g in own]
        shapes = [(f"{end}_shapes", self._shapes(end)) for end in ("min", "opt", "max")]
        pairs: list[tuple[str, object]] = [
            ("target", self.target.name),
            ("compute_capability", self.target.compute_capability),
            ("precision", self.precision),
            *graphs,
            ("workspace_mib", self.workspace_mib),
            ("sparsity", int(self.sparsity)),
            ("tf32", int(self.tf32)),
            ("half", int(self.fp16 and not self.float32_nodes)),
            ("dynamic", ", ".join(self.dynamic)),
            *shapes,
        ]
        return "".join(f"{key} {value}\n" for key, value in pairs if value not in (None, ""))

    def _shapes(self, end: str) -> str:
        """As trtexec takes them: "x:1x3x224x224,'a:b':1x8"."""
        texts = []
        for name, profile in self.profiles.items():
            shape = getattr(profile, end)
            quoted = f"'{name}'" if _UNSAFE.search(name) else name
            texts.append(f"{quoted}:{'x'.join(map(str, shape)) or 'scalar'}")
        return ",".join(texts)


def read_settings(folder: Path) -> Settings:
    """Read `build.json` of a bundle.

    Raises:
        BundleError: DS803 when it is missing, too large, or not what `write_settings` writes.
    """
    path = folder / SETTINGS
    try:
        return Settings.model_validate_json(read_bounded(path, MOST_BYTES))
    except (OSError, ValueError) as error:
        because = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        what = "the file does not say how an engine is built"
        raise BundleError("DS803", what, where=str(path), because=because, hint="compile again") from error


def read_bounded(path: Path, most: int) -> bytes:
    """Read a file from outside.

    Raises:
        OSError: it is missing, or a device or pipe, which could be read forever.
        ValueError: it has more bytes than `most`.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB")
    return data


def target_facts(target: Target) -> TargetFacts:
    """What the scripts must know of a board.

    Raises:
        LoadError: DS144 when it has no known compute capability.
    """
    chip, number = target.accelerator, capability(target).number
    return TargetFacts(
        name=target.name,
        compute_capability=number,
        device_name=chip.device_name if chip else None,
        memory_mib=(chip.memory_mb if chip else None) or target.memory_mb,
        tensorrt=next((runtime.version for runtime in target.runtimes if runtime.name == "tensorrt"), None),
    )


def write_settings(
    folder: Path,
    *,
    target: TargetFacts,
    precision: Kind,
    graphs: Sequence[Graph],
    outputs: Sequence[str],
    int8_nodes: Sequence[str],
    profiles: Mapping[str, Profile] | None = None,
    dynamic: Sequence[str] = (),
    workspace_mib: int | None = None,
    sparsity: bool = False,
    tf32: bool = True,
    fp16: bool = True,
    float32_nodes: Sequence[str] = (),
) -> tuple[str, ...]:
    """Write `build.json`, `build.conf` and the scripts into a bundle.

    Args:
        folder: the bundle; the graphs lie in it already.
        target: the board.
        precision: of the bundle's own engine.
        graphs: what can be built, engines to compare with among it; their hashes are taken here.
        outputs: names of the model's outputs, in order.
        int8_nodes: names of nodes that were planned as INT8, as they are in the graphs.
        profiles: input -> shapes, for each of `dynamic`.
        dynamic: names of inputs that have open axes.
        workspace_mib: the most memory that a kernel may use beside its tensors, in MiB.
        sparsity: whether weights are pruned 2 of 4.
        tf32: whether float32 products may be rounded to TF32, which TensorRT does by default on GPUs that have it.
        fp16: whether a weakly typed engine may compute in float16; False where it was tried and loses too much.
        float32_nodes: names of nodes that a weakly typed engine computes in float32 all the same, and stores so.

    Returns:
        Names of the files that were written, `run.py` first.

    Raises:
        LoadError: DS145 when the settings contradict each other.
    """
    hashed = [graph.model_copy(update={"sha256": sha256(folder / graph.file)}) for graph in graphs]
    try:
        settings = Settings(
            schema=1,
            target=target,
            precision=precision,
            graphs=hashed,
            outputs=list(outputs),
            int8_nodes=list(int8_nodes),
            profiles=dict(profiles or {}),
            dynamic=list(dynamic),
            workspace_mib=workspace_mib,
            sparsity=sparsity,
            tf32=tf32,
            fp16=fp16,
            float32_nodes=list(float32_nodes),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or None
        raise LoadError("DS145", first["msg"].removeprefix("Value error, "), where=where) from error
    (folder / SETTINGS).write_text(settings.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    (folder / LINES).write_text(settings.lines(), encoding="utf-8")
    for name, source in SCRIPTS.items():
        shutil.copyfile(source, folder / name)
    return (*SCRIPTS, SETTINGS, LINES)
