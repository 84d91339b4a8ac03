"""The bundle: a folder with the artifact, the evidence and a runner, described by `manifest.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsedge.errors import BundleError

SCHEMA: Literal[1] = 1
MANIFEST = "manifest.json"

Status = Literal["deferred", "checked", "verified", "measured"]
"""deferred: to be finished on the device; checked: an offline compiler accepted it; verified: it ran on the real
runtime and its outputs were compared; measured: its latency was taken on the named device."""

Role = Literal["model", "graph", "golden", "runner", "build", "report", "plan"]
"""graph: another graph that the device can build from; build: what it builds with."""

Whole = Literal["int8", "int8_dynamic", "int4", "fp16", "bf16", "mixed", "float32"]
"""The precision of an artifact as a whole. fp16: weights stored so, computed in float32; bf16: computed so;
mixed: several of them."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelInfo(_Record):
    """The model that was compiled."""

    name: str
    fingerprint: str = Field(description="sha256 of the source")
    opset: int = Field(description="opset of the artifact's graph")
    source: str
    source_opset: int
    inputs: list[dict[str, Any]] = Field(
        description="name, dtype, shape and layout of each input of the artifact; scale and zero_point of codes"
    )
    outputs: list[dict[str, Any]] = Field(description="the same of each output")


class TargetInfo(_Record):
    """The board."""

    name: str = Field(description="as it was asked for, a short name possibly")
    board: str


class RuntimeInfo(_Record):
    """The runtime that the artifact is for."""

    name: str
    version: str = Field(description='the version it was verified with; "" where the device finishes the artifact')
    variant: str = Field(description="variant of the contract")


class FileInfo(_Record):
    """A file of the bundle."""

    path: str
    sha256: str
    bytes: int
    role: Role


class CalibrationInfo(_Record):
    """Where the ranges come from. A `source` of "random" means that they come from noise."""

    source: str
    samples: int = Field(description="0 when no range was taken from them: they were not used")
    method: str
    sha256: str | None


class Island(_Record):
    """An operator that runs in float, with the reason."""

    node: str
    op: str
    reason: str


class Precision(_Record):
    """What runs in which precision: read back from the runtime where `audited`, else as planned."""

    precision: Whole = Field(description="of the artifact as a whole")
    asked: str = Field("int8", description="what was asked for, as `--precision` takes it")
    int8_ops: int
    int4_ops: int = Field(0, description="operators that compute on INT4 weights")
    bf16_ops: int = Field(0, description="operators that compute in bfloat16")
    float_ops: int
    fp16_ops: int = Field(0, description="of the float ones those whose weights are stored in float16")
    fp16_computed: bool = Field(False, description="whether those compute in float16 too")
    total_ops: int
    islands: list[Island]
    audited: bool
    audit: str = Field(description="what the audit found, or why there was none")


_Number = float  # the class below has a field of that name


class Metric(_Record):
    """A metric of the float model and of the artifact on the same samples."""

    name: str
    float: _Number
    quantized: _Number
    drop: _Number = Field(description="positive when the artifact is worse")
    samples: int | None = Field(description="None when a function of the user judged")


class Steps(_Record):
    """How far an output of codes is from the Q/DQ graph's, counted in steps of its scale (LSB)."""

    max: int
    exact: float = Field(description="share that is equal, 0 to 1")


class Fidelity(_Record):
    """How near the artifact's outputs are to the float model's.

    Of a deferred bundle those of the graph that the device builds; golden ones are always the artifact's.
    """

    sqnr_db: float | None = Field(
        description="the worst output's; None when all floats are identical, or there are none"
    )
    max_abs: float
    top1_agreement: float | None = Field(description="share of samples; None when the output is no class score")
    samples: int
    source: str = Field(default="", description='where the samples come from; "random" is noise, which is no real data')
    reference_sqnr_db: float | None = Field(description="the Q/DQ graph's, executed node by node")
    golden_sqnr_db: list[float | None] = Field(
        description="each output's for the golden samples: what a device must reach"
    )
    golden_agreement: list[float] = Field(
        description="share of each output that the Q/DQ graph and the artifact have in common, 0 to 1: of integers and "
        "strings the equal ones, of floats the equal lengths; a device must reach half of it"
    )
    equal: float | None = Field(
        None,
        description="of outputs that are no floats the share of values that equal the float model's, the worst "
        "output's, 0 to 1; None where there is no such output",
    )
    golden_steps: list[Steps | None] = Field(
        default_factory=list,
        description="each output's distance from the Q/DQ graph for the golden samples; None where it is computed in "
        "float or its lengths differ",
    )
    same_lengths: float = Field(
        1.0, description="share of samples in which all outputs have the float model's shapes; only those are compared"
    )


class Latency(_Record):
    """Time of one inference."""

    runtime: str
    precision: str
    median_ms: float
    p90_ms: float
    iqr_ms: float | None = Field(None, description="interquartile range: the middle half of the runs lies in it")
    runs: int
    threads: int
    where: str
    conditions: dict[str, Any]


class Gate(_Record):
    """A limit, the value, and whether it holds: None when the value was not measured, which is never a pass."""

    name: str
    limit: float
    value: float | None
    passed: bool | None
    note: str = ""


class CandidateInfo(_Record):
    """An artifact that could have been shipped, or why there is none."""

    runtime: str
    version: str
    precision: str = Field(description="of the artifact as a whole; of one that was not made, what was asked for")
    sqnr_db: float | None = Field(
        default=None, description="against the float model; None when identical or not compared"
    )
    metric: Metric | None = None
    median_ms: float | None = Field(default=None, description="None when it was not timed")
    iqr_ms: float | None = None
    bytes: int | None = Field(default=None, description="size of the artifact")
    failed: list[str] = Field(default_factory=list, description="the gates that it failed")
    chosen: bool = False
    reason: str = Field(default="", description="why it was chosen, or was not")
    error: dict[str, str | None] | None = Field(
        default=None, description="code, where, what, because and hint of a failure"
    )


class CostInfo(_Record):
    """An operator of the artifact, or all of a type, and what it takes of one inference, by the runtime's profiler."""

    node: str = Field(description='"" for all operators of a type')
    op: str
    operators: int = Field(default=1, description="how many they are")
    ms: float
    share: float = Field(description="of what all operators take together, 0 to 1")


class PassInfo(_Record):
    """A step of the flow, or a pass over the graph."""

    name: str
    seconds: float
    changed: bool
    notes: list[str] = []


class Manifest(_Record):
    """All that is known about a bundle."""

    schema_: Literal[1] = Field(alias="schema")
    dsedge: str
    created: str = Field(description="UTC, ISO 8601")
    status: Status
    model: ModelInfo
    target: TargetInfo
    runtime: RuntimeInfo
    files: list[FileInfo]
    float_bytes: int = Field(description="size of the float artifact")
    calibration: CalibrationInfo | None
    precision: Precision
    metrics: list[Metric]
    fidelity: Fidelity | None
    latency: list[Latency]
    candidates: list[CandidateInfo] = Field(
        default_factory=list, description="all artifacts that were made, one of them chosen; those that failed last"
    )
    costs: list[CostInfo] = Field(
        default_factory=list,
        description="the operators that cost the most, ten at most, or types of them",
    )
    gates: list[Gate]
    passes: list[PassInfo]
    notes: list[str] = Field(description="what a reader must know: fallbacks, lifted layers, random data")

    @property
    def deferred(self) -> bool:
        """Whether the device finishes the artifact: there are settings that it builds with."""
        return any(f.role == "build" for f in self.files)

    @property
    def failed(self) -> list[Gate]:
        """The gates that failed."""
        return [g for g in self.gates if g.passed is False]

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain data."""
        return self.model_dump(mode="json", by_alias=True)


class Bundle:
    """A bundle on disk.

    Args:
        path: its folder.

    Raises:
        BundleError: DS804 when the folder holds no manifest, DS803 when the manifest is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / MANIFEST
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(
                "DS804",
                f"no readable {MANIFEST} in this folder",
                where=str(path),
                because=str(error),
                hint="give a folder that `dsedge compile` wrote",
            ) from error
        try:
            self.manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or MANIFEST
            raise BundleError(
                "DS803",
                f"field {field!r}: {first['msg']}, found {first['input']!r}"[:300],
                where=str(file),
                hint="compile the model again; a manifest is not edited by hand",
            ) from error

    def __repr__(self) -> str:
        made = self.manifest
        what = f"{made.model.name} for {made.target.board} on {made.runtime.name}, {made.precision.precision}"
        failed = ", a gate failed" if made.failed else ""
        return f"<Bundle {str(self.path)!r}: {what}, {made.status}{failed}>"

    def file(self, role: str) -> Path:
        """The file with a role.

        Raises:
            BundleError: DS803 when there is none, or its path leaves the bundle.
        """
        for info in self.manifest.files:
            if info.role == role:
                return self._inside(info.path)
        raise BundleError("DS803", f"the bundle has no file with the role {role!r}", where=str(self.path))

    def check_files(self) -> None:
        """Compare every file with the manifest.

        Raises:
            BundleError: DS803 naming the first file that is missing or differs.
        """
        for info in self.manifest.files:
            path = self._inside(info.path)
            if not path.is_file():
                raise BundleError("DS803", "the file is missing", where=info.path, hint="copy the whole folder")
            if path.stat().st_size != info.bytes or sha256(path) != info.sha256:
                raise BundleError(
                    "DS803",
                    "the file is not the one that was written",
                    where=info.path,
                    because="its sha256 differs from the manifest's",
                    hint="copy the bundle again, or compile again",
                )

    def _inside(self, relative: str) -> Path:
        pure = PurePosixPath(relative)
        path = self.path / pure
        try:
            short = all(len(part.encode()) < 256 for part in pure.parts)
            inside = (
                short and path.resolve() != self.path.resolve() and path.resolve().is_relative_to(self.path.resolve())
            )
        except (OSError, ValueError):  # a name that no file system takes
            inside = False
        if pure.is_absolute() or ".." in pure.parts or not inside:
            raise BundleError(
                "DS803",
                "the manifest names a file outside of the bundle",
                where=relative,
                hint="do not run this bundle: it was tampered with",
            )
        return path


def sha256(path: Path) -> str:
    """sha256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, roles: Mapping[str, Role]) -> list[FileInfo]:
    """The files of a folder as the manifest lists them; `roles` maps file name to role."""
    return [
        FileInfo(path=name, sha256=sha256(folder / name), bytes=(folder / name).stat().st_size, role=role)
        for name, role in roles.items()
    ]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, the last file of a bundle."""
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
