"""The oracle: what NVIDIA's own parser and compiler make of a graph, on a machine without a GPU.

`tensorrt-rtx` (extra of the same name) is TensorRT for desktop GPUs. Its parser and its compiler are real ones, and
build ahead of time for a compute capability. What they refuse, and what they leave in float, TensorRT on a target very
probably does too; it is another product all the same. Its engine is thrown away: it is no engine of the target, and
nothing here says how fast one is.

It reads strongly typed graphs only: the graph says all precisions, so that float32 Q/DQ and float16 Q/DQ graphs
are both built as they are written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dsedge.backends.base import installed_version
from dsedge.backends.tensorrt.names import rename
from dsedge.errors import BuildError

PACKAGE = "tensorrt-rtx"
PIP_LINE = "pip install 'dsedge[tensorrt-rtx]'"
SECONDS = 240
"""BERT-base takes 10. A chain of 20000 nodes takes longer than this."""
MEMORY = 16 * 2**30
"""Bytes that its process may allocate. BERT-base takes 1.6 GB."""

Profile = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Least, usual and greatest shape of an input."""


@dataclass(frozen=True)
class Aim:
    """What the compiler builds for, to learn about a compute capability.

    Attributes:
        built_for: compute capability that is built for, "8.0".
        note: how far the result holds for the one asked about, "" where the two are the same.
    """

    built_for: str
    note: str = ""


AIMS: Mapping[str, Aim] = {
    "7.5": Aim("7.5", "for 7.5 this compiler has no INT8 convolutions and no float32 products, and TensorRT has both"),
    "8.0": Aim("8.0"),
    "8.6": Aim("8.6"),
    "8.7": Aim("8.6", "by proxy, 8.6 is the nearest to 8.7 that the compiler knows"),
    "8.9": Aim("8.9"),
    "12.0": Aim("12.0"),
    "12.1": Aim("12.1"),
}
"""Compute capability of a target -> what is built for it. Xavier's 7.2 and Hopper's 9.0 have nothing near."""


@dataclass(frozen=True)
class ParserError:
    """A node that the parser refuses; `node` is "" where it is about the model."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Layer:
    """A kernel of the engine.

    Attributes:
        name: as the compiler made it up.
        kind: "correlation" (convolution), "gemm", "maxpool", "kgen" (generated elementwise code), "runtime_fusion"...
        reads, constants, writes: element types of its inputs, constants and outputs: "Int8", "Half", "Float"...
        nodes: names of the graph's nodes that it is made of, in no order. A node can be in several layers.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    constants: tuple[str, ...]
    writes: tuple[str, ...]
    nodes: frozenset[str]

    @property
    def on_codes(self) -> bool:
        """Whether it computes on codes: INT8 or FP8, or float data and INT4 weights.

        A convolution, product or pooling reads the data first and a skip connection after it. A product that was fused
        with the casts before it ("runtime_fusion") widens codes to float inside, which is how INT4 weights are meant to
        be read and nothing else is. Elementwise code widens what it reads too, but it was to read less and no more.
        """
        if self.kind == "runtime_fusion":
            return "Int4" in self.constants
        if self.kind == "kgen":
            return "Int8" in self.reads or "FP8" in self.reads
        return self.reads[:1] in (("Int8",), ("FP8",))


@dataclass(frozen=True)
class Verdict:
    """What the compiler said of a graph. It is about the graph: no engine of a target, and no latency.

    Attributes:
        version: of tensorrt-rtx.
        capability: compute capability that was asked about.
        aim: what was built for.
        errors: of the parser, empty where it reads the whole graph.
        failure: why nothing was built though the graph was read: the compiler's words, or how its process ended.
        layers: of the engine, in its order.
    """

    version: str
    capability: str
    aim: Aim
    errors: tuple[ParserError, ...]
    failure: str
    layers: tuple[Layer, ...]

    @property
    def accepted(self) -> bool:
        """Whether an engine was built."""
        return not self.errors and not self.failure

    def of(self, node: str) -> tuple[Layer, ...]:
        """The layers that a node is in; where a kernel of its own computes it, without the elementwise code around."""
        held = tuple(layer for layer in self.layers if node in layer.nodes)
        return tuple(layer for layer in held if layer.kind not in _AROUND) or held


_AROUND = ("kgen", "signal", "wait")
_LINE = re.compile(
    r"Name: (.*?), LayerType: (\w+), Inputs: \[(.*?)\](?:, Constants: \[(.*?)\])?, Outputs: \[(.*?)\], [A-Z]\w+: .*"
)
_TYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (n\d+)")
_NEW_NAME = re.compile(r"\b[nv]\d+\b")


def version() -> str | None:
    """The installed version of tensorrt-rtx, None when it is missing."""
    return installed_version(PACKAGE)


def check(
    model: ir.Model, capability: str, *, profiles: Mapping[str, Profile] | None = None, seconds: float = SECONDS
) -> Verdict:
    """Parse a graph and build it ahead of time, in a process of its own.

    Args:
        model: a float or Q/DQ graph, in float32 or float16; it is not changed.
        capability: compute capability of the target, "8.0"; a key of `AIMS`.
        profiles: for each input with open axes its least, usual and greatest shape.
        seconds: the most that the compiler may take.

    Raises:
        BuildError: DS402 when tensorrt-rtx is not installed; DS401 when it builds for nothing near `capability`.
    """
    found = version()
    if found is None:
        raise BuildError("DS402", f"{PACKAGE} is not installed", hint=PIP_LINE)
    aim = AIMS.get(capability)
    if aim is None:
        what = f"{PACKAGE} builds for nothing near compute capability {capability}"
        raise BuildError("DS401", what, hint=f"known: {', '.join(AIMS)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        ir.save(model, file, external_data="weights")
        names, values = rename(file)
        shapes = {values.get(name, name): three for name, three in (profiles or {}).items()}
        said = _compile(file, aim, shapes, seconds)
    if isinstance(said, str):
        return Verdict(found, capability, aim, (), said, ())
    known = names | {new: old for old, new in values.items()}
    errors = tuple(
        ParserError(names.get(e["node"], ""), e["op"], _readable(e["reason"], known)) for e in said["errors"]
    )
    last = _readable(said["complaints"][-1], known) if said["complaints"] else "it said nothing"
    if not said["parsed"] and not errors:
        errors = (ParserError("", "", last),)
    failure = "" if said["built"] or errors else last
    return Verdict(found, capability, aim, errors, failure, tuple(read_layer(line, names) for line in said["layers"]))


def coverage(verdict: Verdict, planned: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Which of the nodes that were planned as INT8, INT4 or FP8 run in it.

    Args:
        verdict: of a graph that was accepted.
        planned: names of the nodes.

    Returns:
        The nodes that are computed on codes, and for each other one in words what is done instead.
    """
    codes, others = [], {}
    for name in planned:
        layers = verdict.of(name)
        if any(layer.on_codes for layer in layers):
            codes.append(name)
        elif layers:
            read = ", ".join(sorted({kind for layer in layers for kind in layer.reads}))
            others[name] = f"computed on {read} by {layers[0].kind}"
        else:
            others[name] = "in none of the engine's layers: folded, or fused without a trace"
    return codes, others


def read_layer(line: str, names: Mapping[str, str]) -> Layer:
    """A line of the compiler's list of layers; `names` says for each name in the file the graph's own."""
    match = _LINE.match(line)
    if match is None:
        raise BuildError("DS401", "the compiler's list of layers has another form than expected", because=line[:200])
    name, kind, *tensors = match.groups()
    reads, constants, writes = (tuple(_TYPE.findall(each or "")) for each in tensors)
    nodes = frozenset(names[node] for node in _NODE.findall(line) if node in names)
    return Layer(name, kind, reads, constants, writes, nodes)


def _compile(file: Path, aim: Aim, profiles: Mapping[str, Profile], seconds: float) -> dict[str, Any] | str:
    """What the compiler's process wrote, or how it ended without writing."""
    result = file.with_name("result.json")
    shapes = json.dumps({name: [list(shape) for shape in three] for name, three in profiles.items()})
    script = Path(__file__).with_name("compiler.py")
    architecture = "SM" + aim.built_for.replace(".", "")
    command = [sys.executable, "-P", str(script), str(file), str(result), architecture, shapes, str(MEMORY)]
    unseen = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # the same verdict with a GPU and without
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, env=unseen
        )
    except subprocess.TimeoutExpired:
        return f"the compiler was stopped after {seconds:g} seconds"
    if result.is_file() and ended.returncode == 0:
        said: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return said
    if ended.returncode < 0:
        return f"the compiler crashed ({signal.Signals(-ended.returncode).name})"
    lines = ended.stderr.decode(errors="replace").strip().splitlines()
    return f"the compiler failed: {lines[-1][:300]}" if lines else f"the compiler ended with {ended.returncode}"


def _readable(message: str, names: Mapping[str, str]) -> str:
    """A message of the compiler in one line, with the graph's own names, and without what it says of absent GPUs."""
    lines = [line for line in message.splitlines() if "catchCudaError" not in line]
    return _NEW_NAME.sub(lambda match: names.get(match[0], match[0]), " ".join(lines))[:500]
