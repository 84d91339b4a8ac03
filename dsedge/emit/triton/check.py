"""What Triton would refuse of a configuration, or would do otherwise than meant.

Triton's schema knows fields and enums, not sense: it takes a `max_batch_size` of -5, and an engine that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from dsedge.bundle import ModelInfo
from dsedge.emit.triton.config import BACKENDS, DATA_TYPES, ONE_SIZE, VERSION
from dsedge.emit.triton.text import Config

_KINDS = frozenset({"KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"})
_SIZES = dict(DATA_TYPES.values())

Ranges = Mapping[str, Sequence[tuple[int, int]]]
"""Input -> the least and the greatest length of each of its axes, the batch axis included."""


def problems(
    config: Config, folder: Path, model: ModelInfo, ranges: Ranges | None = None, pending: Collection[str] = ()
) -> list[str]:
    """What Triton would refuse, or would do otherwise than meant; nothing where all is well.

    Args:
        config: of the model.
        folder: of the model in the repository.
        model: what the manifest says of its inputs and outputs, the batch axis included; an open axis is no number.
        ranges: of TensorRT, what lengths the engines take.
        pending: files of the version that are built on the serving host, and are not there yet.
    """
    batch: int = config.get("max_batch_size", 0)
    specs = {spec["name"]: spec for spec in [*model.inputs, *model.outputs]}
    tensors = [*config.get("input", []), *config.get("output", [])]
    return [
        *_batching(config, batch),
        *(line for tensor in tensors for line in _tensor(tensor, specs.get(tensor["name"]), batched=batch > 0)),
        *_names(config, folder, model),
        *_instances(config),
        *_files(config, folder, pending),
        *(line for sample in config.get("model_warmup", []) for line in _warmup(sample, config, folder, batch)),
        *(_lengths(config, batch, ranges or {}) if config.get("backend") == "tensorrt" else ()),
    ]


def _batching(config: Config, batch: int) -> Iterator[str]:
    if not 0 <= batch < 2**31:
        yield f"max_batch_size is {batch}; it is 0, where requests are not stacked, or more"
    if batch > 0 and config.get("backend") in BACKENDS and not BACKENDS[config["backend"]].stacks:
        yield f"max_batch_size is {batch}, and {ONE_SIZE}"
    queue = config.get("dynamic_batching")
    if queue is None:
        return
    if batch < 1:
        yield "dynamic_batching stacks requests, and max_batch_size says that they cannot be"
    for size in queue.get("preferred_batch_size", []):
        if not 1 <= size <= batch:
            yield f"preferred_batch_size {size} is not between 1 and max_batch_size, {batch}"
    if queue.get("max_queue_delay_microseconds", 0) < 0:
        yield "max_queue_delay_microseconds is negative"


def _tensor(tensor: Config, spec: Mapping[str, Any] | None, *, batched: bool) -> Iterator[str]:
    name, dims = tensor["name"], tensor.get("dims", [])
    if tensor.get("data_type") not in _SIZES:
        yield f"{name}: Triton has no data type {tensor.get('data_type')}"
    if not dims or any(d != -1 and d < 1 for d in dims):
        yield f"{name}: dims {dims} are not lengths of 1 and more, or -1 for an open one"
    if "reshape" in tensor and not batched:
        yield f"{name}: reshape leaves no axis, and only stacked requests have one more"
    if spec is None:
        return
    if (expected := DATA_TYPES[spec["dtype"]][0]) != tensor.get("data_type"):
        yield f"{name}: data_type is {tensor.get('data_type')}, and the model's is {expected}"
    inner, axes = _inner(tensor), [d if isinstance(d, int) else -1 for d in spec["shape"]]
    if batched and axes[:1] != [-1]:
        yield f"{name}: requests are stacked along the first axis, and the model's is {axes[0] if axes else 'none'}"
    elif (wanted := axes[1:] if batched else axes) != inner:
        yield f"{name}: dims {inner} are not the model's {wanted}" + (", without the batch axis" if batched else "")


def _inner(tensor: Config) -> list[int]:
    """The axes that the model sees, but for the batch axis."""
    axes: list[int] = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor.get("dims", [])
    return axes


def _names(config: Config, folder: Path, model: ModelInfo) -> Iterator[str]:
    if config.get("name") != folder.name:
        yield f"name is {config.get('name')!r}, and the folder {folder.name!r}"
    for kind, specs in (("input", model.inputs), ("output", model.outputs)):
        names, known = [tensor["name"] for tensor in config.get(kind, [])], [spec["name"] for spec in specs]
        yield from (f"{kind} {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1}))
        yield from (f"{kind} {name!r} is none of the model's" for name in names if name not in known)
        yield from (f"{kind} {name!r} of the model is missing" for name in known if name not in names)


def _instances(config: Config) -> Iterator[str]:
    backend = config.get("backend", "")
    expected = BACKENDS[backend].kind if backend in BACKENDS else None
    for group in config.get("instance_group", []):
        if group.get("kind") not in _KINDS or group.get("count", 1) < 1:
            yield f"instance_group {group} has no known kind, or no instance"
        elif expected and group["kind"] != expected:
            yield f"instance_group says {group['kind']}, and a bundle for {backend} is for {expected}"


def _files(config: Config, folder: Path, pending: Collection[str]) -> Iterator[str]:
    plans = config.get("cc_model_filenames", {})
    for capability in plans:
        if not re.fullmatch(r"[1-9]\d*\.\d", capability):
            yield f"cc_model_filenames: {capability!r} is no compute capability such as 8.0"
    backend = config.get("backend", "")
    expected = BACKENDS[backend].files if backend in BACKENDS else ()
    for name in [*plans.values(), *expected]:
        if Path(name).name != name:
            yield f"{name!r} leaves the folder of the version"
        elif name not in pending and not (folder / VERSION / name).is_file():
            yield f"there is no file {VERSION}/{name}"


def _warmup(sample: Config, config: Config, folder: Path, batch: int) -> Iterator[str]:
    name, given = sample.get("name", ""), sample.get("inputs", {})
    inputs = {tensor["name"]: tensor for tensor in config.get("input", [])}
    if not 1 <= sample.get("batch_size", 0) <= max(batch, 1):
        yield f"warm-up {name!r}: batch_size {sample.get('batch_size', 0)} is not between 1 and {max(batch, 1)}"
    if missing := sorted(inputs.keys() ^ given.keys()):
        yield f"warm-up {name!r}: its inputs are not the model's, see {', '.join(missing)}"
    for key in inputs.keys() & given.keys():
        value, dims, wanted = given[key], given[key].get("dims", []), inputs[key].get("dims", [])
        fits = len(dims) == len(wanted) and all(d > 0 and w in (-1, d) for d, w in zip(dims, wanted, strict=True))
        if value.get("data_type") != inputs[key].get("data_type") or not fits:
            yield f"warm-up {name!r}: {key} is {value.get('data_type')} {dims}, the input takes {wanted}"
            continue
        file = value.get("input_data_file")
        if file is None:
            if not value.get("zero_data") and not value.get("random_data"):
                yield f"warm-up {name!r}: {key} has no data"
            continue
        path, size = folder / "warmup" / file, _SIZES.get(value.get("data_type"), 0)
        if Path(file).name != file or not path.is_file():
            yield f"warm-up {name!r}: there is no file warmup/{file}"
        elif size and path.stat().st_size != size * prod(dims):
            yield f"warm-up {name!r}: warmup/{file} has {path.stat().st_size} bytes, {key} takes {size * prod(dims)}"


def _lengths(config: Config, batch: int, ranges: Ranges) -> Iterator[str]:
    """What the optimization profiles of the engines do not take."""
    for tensor in config.get("input", []):
        name, axes = tensor["name"], ranges.get(tensor["name"])
        if axes is None:
            if batch > 0 or -1 in _inner(tensor):
                yield f"{name}: an axis is open, and no profile says what lengths the engine takes"
            continue
        taken = f"the engines take {[least for least, _ in axes]} to {[most for _, most in axes]}"
        if batch > 0 and not (axes and axes[0][0] <= 1 <= batch <= axes[0][1]):
            yield f"{name}: max_batch_size is {batch}, and {taken}"
        for sample in config.get("model_warmup", []):
            dims = [] if "reshape" in tensor else sample.get("inputs", {}).get(name, {}).get("dims", [])
            shape = [sample.get("batch_size", 0), *dims] if batch > 0 else dims
            if len(shape) != len(axes) or any(not a <= n <= b for n, (a, b) in zip(shape, axes, strict=True)):
                yield f"warm-up {sample.get('name', '')!r}: {name} is {shape}, and {taken}"
