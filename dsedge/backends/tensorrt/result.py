"""What a device says of a bundle: `device.json`, written there by `device/verify.py`. It comes from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsedge.backends.tensorrt.device.trt_rules import expected
from dsedge.backends.tensorrt.device.trt_target import differences
from dsedge.backends.tensorrt.settings import SETTINGS, Kind, read_bounded, read_settings
from dsedge.bench.runner import agrees, close_enough
from dsedge.bundle import Bundle, sha256
from dsedge.errors import BundleError, VerifyError

RESULT = "device.json"
MOST_BYTES = 8 * 2**20
FLOATS: tuple[Kind, ...] = ("fp16", "fp32")
"""What `verify.py --compare` builds to compare with."""

_HINT = "run python3 verify.py on the device again, and copy device.json into the bundle it ran in"
_Text = Annotated[str, Field(max_length=2000)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Ms = Annotated[float, Field(gt=0, allow_inf_nan=False, le=1e8)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Times(_Record):
    """Percentiles of the time of one inference, in milliseconds."""

    median_ms: _Ms
    p90_ms: _Ms
    p99_ms: _Ms
    min_ms: _Ms
    runs: Annotated[int, Field(ge=1, le=10**9)]


class EngineTimes(_Record):
    """Of one engine: with copies, by the host's clock, and on the GPU alone, by CUDA events."""

    host: Times
    device: Times


class Gpu(_Record):
    """The GPU that it ran on, the board's model where a device tree says one, and the memory that the GPU can use."""

    name: _Text
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d$")]
    model: _Text | None
    memory_mib: Annotated[int, Field(ge=0)]


class Golden(_Record):
    """The golden outputs, as `runner.compare` gives them."""

    sqnr_db: Annotated[list[_Finite | None], Field(max_length=1000)]
    identical: Annotated[list[bool], Field(max_length=1000)]
    numbers: list[Annotated[int, Field(ge=0)]]
    agreement: list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]
    max_abs_from_expected: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DlaLayers(_Record):
    """Layers of the engine that run on the DLA, and those on the GPU; `core` is None where no DLA was asked for."""

    core: Annotated[int, Field(ge=0)] | None
    on_dla: Annotated[int, Field(ge=0)]
    on_gpu: Annotated[int, Field(ge=0)]


class Timing(_Record):
    """How times were taken: the shape of each input, runs before, in which order the engines ran, what each covers."""

    shapes: dict[str, list[Annotated[int, Field(ge=0)]]]
    warmup: Annotated[int, Field(ge=0)]
    order: _Text
    device: _Text
    host: _Text


class DeviceResult(_Record):
    """What was found on the device.

    Attributes:
        status: "measured" only where the device is the target, by `differences` in `device/trt_target.py`.
        seen: file -> sha256 of what the device had.
        tensorrt, gpu: what the engine ran on, which need not be what built it.
        tf32: whether float32 products may have been rounded to TF32.
        int8: planned nodes that run in INT8.
        not_int8: for each that does not what the engine does instead.
        unknown: for each of which it cannot be told the reason.
        latency: precision -> times; after `read_result` the bundle's own first, then those of `FLOATS` in that order.
        conditions: power mode, clocks, temperatures before and after, and whether the clocks were locked.
    """

    schema_: Literal[1] = Field(alias="schema")
    status: Literal["verified", "measured"]
    created: _Text
    seen: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    tensorrt: Annotated[str, Field(pattern=r"^\d+(\.\d+){1,3}[\w.+-]{0,20}$", max_length=60)]
    made_by: Literal["tensorrt", "trtexec"]
    gpu: Gpu
    os: _Text
    flags: list[_Text]
    tf32: bool
    build_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    golden: Golden
    int8: list[str]
    not_int8: dict[str, _Text]
    unknown: dict[str, _Text]
    dla: DlaLayers
    latency: dict[Kind, EngineTimes]
    timing: Timing
    conditions: dict[str, Any]
    warnings: list[str]


def read_result(folder: Path) -> DeviceResult:
    """Read the result that was copied back into a bundle, and check that it is about this bundle.

    Args:
        folder: the bundle, with `device.json` in it.

    Raises:
        BundleError: DS803 when the file is missing, too large, not what `verify.py` writes, or about other files.
        VerifyError: DS501 when the golden outputs that it reports are off.
    """
    manifest = Bundle(folder).manifest
    text = _read(folder / RESULT)
    settings = read_settings(folder)
    try:
        result = DeviceResult.model_validate(json.loads(text, parse_constant=_no_number))
    except ValidationError as error:
        first = error.errors()[0]
        _refuse(f"field {'.'.join(map(str, first['loc']))!r}: {first['msg']}")
    except (ValueError, RecursionError) as error:
        _refuse(str(error)[:200])
    graphs = {graph.file: graph for graph in settings.graphs if graph.precision == settings.precision}
    built = [graphs[name] for name in result.seen if name in graphs]
    if len(built) != 1 or result.seen.keys() != {SETTINGS, "golden.npz", "engine.plan", built[0].file}:
        _refuse("it does not say which files it is about")
    for name, digest in result.seen.items():
        if name != "engine.plan" and (not (folder / name).is_file() or sha256(folder / name) != digest):
            _refuse(f"it is about another {name}")
    others = differences(settings.target.model_dump(), result.gpu.model_dump(), result.tensorrt)
    if result.status == "measured" and others:
        _refuse(f"it calls a {result.gpu.name} the target, and {others[0]}")
    if sorted([*result.int8, *result.not_int8, *result.unknown]) != sorted(settings.int8_nodes):
        _refuse("its nodes are not those of the plan")
    if settings.precision not in result.latency:
        _refuse("it has no latency of the bundle's own engine")
    kinds = dict.fromkeys([settings.precision, *FLOATS])
    if result.latency.keys() - kinds:
        _refuse("it has a latency of engines that verify.py does not compare with")
    golden, recorded = result.golden, manifest.fidelity
    lengths = {len(golden.sqnr_db), len(golden.numbers), len(golden.agreement), len(manifest.model.outputs)}
    if len(lengths) != 1:
        _refuse("its outputs are not those of the model")
    exact = settings.precision == "fp32" and not result.tf32
    if recorded is None or not (
        close_enough(golden.sqnr_db, expected(built[0].golden_sqnr_db, recorded.golden_sqnr_db, exact), golden.numbers)
        and agrees(golden.agreement, recorded.golden_agreement)
    ):
        what = "the golden outputs are off on the device"
        raise VerifyError("DS501", what, where=RESULT, hint="compare TensorRT's version with the manifest's")
    in_order = {kind: result.latency[kind] for kind in kinds if kind in result.latency}
    return result.model_copy(update={"latency": in_order})


def _read(path: Path) -> str:
    try:
        return read_bounded(path, MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        _refuse(str(error))


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _refuse(because: str) -> NoReturn:
    raise BundleError("DS803", "the device's result cannot be used", where=RESULT, because=because, hint=_HINT)
