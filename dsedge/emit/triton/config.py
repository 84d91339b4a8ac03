"""The configuration of a model on Triton, made of its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dsedge.bundle import Bundle
from dsedge.emit.triton.text import Config
from dsedge.errors import BuildError


class Backend(NamedTuple):
    """A backend of Triton.

    Attributes:
        kind: of its instances, where the bundle's evidence is from.
        files: that it looks for. Those of TensorRT are named in the configuration.
        stacks: whether it computes fewer rows than `max_batch_size` where fewer came.
    """

    kind: str
    files: tuple[str, ...] = ()
    stacks: bool = True


BACKENDS = {
    "onnxruntime": Backend("KIND_CPU", ("model.onnx",)),
    "openvino": Backend("KIND_CPU", ("model.xml", "model.bin"), stacks=False),
    "tensorrt": Backend("KIND_GPU"),
}
"""Runtimes that Triton has a backend for, which has the same name."""

ONE_SIZE = "Triton's openvino backend takes only requests of exactly max_batch_size rows"

VERSION = "1"
"""The folder of the only version that is written."""

DATA_TYPES = {
    "bool": ("TYPE_BOOL", 1),
    "uint8": ("TYPE_UINT8", 1),
    "uint16": ("TYPE_UINT16", 2),
    "uint32": ("TYPE_UINT32", 4),
    "uint64": ("TYPE_UINT64", 8),
    "int8": ("TYPE_INT8", 1),
    "int16": ("TYPE_INT16", 2),
    "int32": ("TYPE_INT32", 4),
    "int64": ("TYPE_INT64", 8),
    "float16": ("TYPE_FP16", 2),
    "bfloat16": ("TYPE_BF16", 2),
    "float32": ("TYPE_FP32", 4),
    "float64": ("TYPE_FP64", 8),
    "string": ("TYPE_STRING", 0),
}
"""numpy's name of an element type -> Triton's, and its bytes; strings have no fixed number."""


def make_config(
    bundle: Bundle,
    name: str,
    engines: Mapping[str, str],
    max_batch: int,
    preferred: Sequence[int],
    queue_delay_us: int,
    instances: int,
) -> Config:
    """The configuration, but for the warm-up."""
    model, runtime = bundle.manifest.model, bundle.manifest.runtime.name
    config: Config = {
        "name": name,
        "backend": runtime,
        "max_batch_size": max_batch,
        "input": [_tensor(spec, batched=max_batch > 0) for spec in model.inputs],
        "output": [_tensor(spec, batched=max_batch > 0) for spec in model.outputs],
        "instance_group": [{"kind": BACKENDS[runtime].kind, "count": instances}],
    }
    if max_batch > 0:
        sizes = {"preferred_batch_size": sorted(preferred)} if preferred else {}
        config["dynamic_batching"] = {**sizes, "max_queue_delay_microseconds": queue_delay_us}
    if engines:
        config["cc_model_filenames"] = dict(engines)
    return config


def _tensor(spec: Mapping[str, Any], *, batched: bool) -> Config:
    """An input or output. Triton has no scalars: those of stacked requests are one element, reshaped for the model.

    Raises:
        BuildError: DS401 for a scalar, for a type that is none of Triton's, or where the number of axes is not known.
    """
    name, dtype, shape = spec["name"], spec["dtype"], spec["shape"]
    if dtype not in DATA_TYPES or not shape:
        what = "its number of axes is not known" if shape is None else "Triton serves no scalars"
        what = what if dtype in DATA_TYPES else f"Triton has no type {dtype}"
        raise BuildError("DS401", what, where=name, hint="export the model with another input or output")
    dims = [axis if isinstance(axis, int) else -1 for axis in shape][batched:]
    reshape: Config = {} if dims else {"reshape": {"shape": []}}
    return {"name": name, "data_type": DATA_TYPES[dtype][0], "dims": dims or [1], **reshape}


def warmup(config: Config, shapes: Sequence[tuple[int, ...]]) -> list[Config]:
    """One golden sample as warm-up, at the smallest and the largest size and those that the batcher aims at.

    It is data, because noise would be no token id, and would take other branches than data.

    Args:
        config: without its warm-up.
        shapes: of the sample for each input, the batch axis included where requests are stacked.
    """
    batch = config["max_batch_size"]
    sizes = {1, max(batch, 1), *config.get("dynamic_batching", {}).get("preferred_batch_size", [])}
    inputs = {
        tensor["name"]: {
            "data_type": tensor["data_type"],
            "dims": list(shape[batch > 0 :]) or [1],
            "input_data_file": f"input_{number}",
        }
        for number, (tensor, shape) in enumerate(zip(config["input"], shapes, strict=True))
    }
    return [{"name": f"golden_{size}", "batch_size": size, "inputs": inputs} for size in sorted(sizes)]


def raw(array: np.ndarray) -> bytes:
    """An array as Triton reads it from a file: little-endian, strings with their length before them."""
    if array.dtype.kind in "USO":
        texts = [str(text).encode() for text in array.ravel()]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
