"""Stacking: whether a server may put several requests into one run of a model.

An open first axis is no promise: it may count frames or points, and a model may compare what lies along it. So two
golden samples are run alone and then as one, on the bundle's own runtime.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from shlex import quote
from typing import Any

import numpy as np

from dsedge.backends.base import installed_backend
from dsedge.backends.tensorrt.settings import read_settings
from dsedge.bundle import Bundle
from dsedge.data import Feeds
from dsedge.emit.triton.config import BACKENDS, ONE_SIZE
from dsedge.errors import BundleError, DsedgeError
from dsedge.session import REFERENCE, first_line
from dsedge.verify import open_artifact, sqnr_by_output

_MAX_BYTES = 1 << 30
_LEAST_DB, _LEAST_AGREEMENT = 20.0, 0.9


def golden_inputs(bundle: Bundle) -> list[Feeds]:
    """The first and the last golden sample of a bundle, the same one where there is one only.

    Raises:
        BundleError: DS803 when they cannot be read, or are larger than 1 GiB.
    """
    path, inputs = bundle.file("golden"), bundle.manifest.model.inputs
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise ValueError("it unpacks to more than 1 GiB")
        with np.load(path, allow_pickle=False) as data:
            arrays = {spec["name"]: data[f"input_{i}"] for i, spec in enumerate(inputs)}
        if any(arrays[spec["name"]].ndim != 1 + len(spec["shape"] or ()) for spec in inputs):
            raise ValueError("its inputs have not the axes that the manifest says")
        return [{name: array[n] for name, array in arrays.items()} for n in (0, -1)]
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise BundleError("DS803", "the golden inputs cannot be read", where=path.name, because=str(error)) from error


def why_not_stacked(bundle: Bundle, samples: Sequence[Feeds]) -> str | None:
    """Why requests cannot be stacked along the first axis of all inputs and outputs; None when they can.

    Args:
        bundle: where its runtime is not installed here, that is the reason.
        samples: two requests. Alone and stacked they must give the same, to 20 dB: INT8 rounds a little otherwise in
            a kernel for more rows, and ranges that are taken as values come are taken over the stack.
    """
    model = bundle.manifest.model
    if not BACKENDS[bundle.manifest.runtime.name].stacks:
        return f"requests are not stacked: {ONE_SIZE}"
    fixed = [spec["name"] for spec in [*model.inputs, *model.outputs] if not _opens(spec)]
    if fixed:
        return f"the first axis of {fixed[0]!r} is fixed, so requests cannot be stacked: {_how_to_open(bundle)}"
    try:
        run = open_artifact(installed_backend(_executor(bundle)), bundle.file("model"))
        alone = [run(feeds) for feeds in samples]
        stacked = run({name: np.concatenate([feeds[name] for feeds in samples]) for name in samples[0]})
    except DsedgeError as error:
        return f"it could not be tried whether requests can be stacked: {error.what}"
    except Exception as error:  # each runtime has exceptions of its own
        return f"requests cannot be stacked: {first_line(error)}"
    for spec, got, *parts in zip(model.outputs, stacked, *alone, strict=True):
        if any(part.ndim == 0 for part in parts) or not _same(np.concatenate(parts), got):
            return f"requests cannot be stacked: {spec['name']!r} is another then than for each alone"
    return None


def _executor(bundle: Bundle) -> str:
    """The runtime to try it on: an engine needs its GPU, but the graph that it is built from does not."""
    name = bundle.manifest.runtime.name
    return REFERENCE if name == "tensorrt" else name


def _how_to_open(bundle: Bundle) -> str:
    inputs = bundle.manifest.model.inputs
    if bundle.manifest.runtime.name != "tensorrt" or not all(spec["shape"] for spec in inputs):
        return "export the model with an open batch axis"
    profiles, options = read_settings(bundle.path).profiles, []
    for spec in inputs:
        axes = ["1:8:32"]
        for number, axis in enumerate(spec["shape"][1:], 1):
            known = profiles.get(spec["name"])
            three = (known.min[number], known.opt[number], known.max[number]) if known else (axis,)
            axes.append(str(axis) if isinstance(axis, int) else ":".join(map(str, three)))
        options.append("--shape " + quote(f"{spec['name']}={','.join(axes)}"))
    return f"compile a model whose batch axis is open with {' '.join(options)} for up to 32"


def _opens(spec: dict[str, Any]) -> bool:
    shape, layout = spec["shape"], spec.get("layout")
    return bool(shape) and not isinstance(shape[0], int) and (layout is None or layout.startswith("N"))


def _same(reference: np.ndarray, got: np.ndarray) -> bool:
    if reference.shape != got.shape:
        return False
    if reference.dtype.kind != "f":
        return bool(np.mean(reference == got) >= _LEAST_AGREEMENT)
    (ratio,) = sqnr_by_output([[reference]], [[got]])
    return ratio is None or ratio >= _LEAST_DB
