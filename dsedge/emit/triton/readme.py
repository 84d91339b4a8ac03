"""What lies beside the configuration for people: of what the model was made, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from dsedge.bundle import Bundle
from dsedge.emit.triton.config import VERSION
from dsedge.emit.triton.engines import Engine
from dsedge.report.text import printable


def readme(bundles: Sequence[Bundle], name: str, engines: Sequence[Engine], notes: Sequence[str]) -> str:
    """The text of README.md, what is missing first."""
    unbuilt = [engine for engine in engines if engine.tensorrt is None]
    parts = [f"# {name}", _missing(unbuilt)] if unbuilt else [f"# {name}"]
    parts.append("\n".join(["| made of | runtime | precision | status |", "|---|---|---|---|", *map(_row, bundles)]))
    parts += [
        f"- `{VERSION}/{engine.file}` was built by TensorRT {printable(engine.tensorrt)}: Triton must have that one."
        for engine in engines
        if engine.tensorrt is not None
    ]
    parts += [f"- {printable(note)}" for note in notes]
    parts.append(
        "Triton's runtime must be the one above or a later one; an engine must be built by the TensorRT that loads "
        "it. `tritonserver --model-repository=` takes the folder above this one."
    )
    return "\n\n".join(parts) + "\n"


def _missing(engines: Sequence[Engine]) -> str:
    files = ", ".join(f"`{VERSION}/{engine.file}` (compute capability {engine.capability})" for engine in engines)
    return (
        f"**Not ready to serve.** Missing: {files}. An engine is built on the GPU that runs it: run `./build.sh` there "
        "once, in an image with the TensorRT of your Triton; on a Jetson JetPack's own will do, where Triton uses it "
        "too. Until then Triton refuses to load this model and names the file."
    )


def _row(bundle: Bundle) -> str:
    manifest = bundle.manifest
    made = f"{manifest.model.name} for {manifest.target.board}"
    runtime = f"{manifest.runtime.name} {manifest.runtime.version}".strip()
    cells = (made, runtime, manifest.precision.precision, manifest.status)
    return f"| {' | '.join(printable(cell).replace('|', ' ') for cell in cells)} |"
