"""Triton Inference Server: a model repository made of bundles.

    repository/NAME/config.pbtxt      what Triton reads
    repository/NAME/1/                the model, or one engine for each kind of GPU
    repository/NAME/warmup/           a golden sample, which Triton runs before it says that it is ready
    repository/NAME/README.md         what it was made of, and what is missing
    repository/NAME/build.sh          builds the engines that are missing, on the GPU that will run them
    repository/NAME/bundles/BOARD/    the bundles that it builds them from

Triton passes over the folders that are no version numbers. A TensorRT bundle whose engine is not built yet stays a
TensorRT model: Triton refuses to load it and names the file, and `build.sh` makes that file. ONNX Runtime's TensorRT
provider could run the graph without that step, but it builds the engine while the server starts, and runs in CUDA or on
the CPU what it cannot place: other kernels than those that the bundle's evidence is about, without a word.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsedge.bundle import MANIFEST, Bundle
from dsedge.emit.triton.bundles import one_model
from dsedge.emit.triton.check import problems
from dsedge.emit.triton.config import VERSION, make_config, raw, warmup
from dsedge.emit.triton.engines import PLAN, Engine, build_script, engines_of, ranges_of, stacked_by_profiles
from dsedge.emit.triton.place import HEADER, model_folder, require_place
from dsedge.emit.triton.readme import readme
from dsedge.emit.triton.stacking import golden_inputs, why_not_stacked
from dsedge.emit.triton.text import Config, parse, schema_version, to_text
from dsedge.errors import BuildError, LoadError

DEFAULT_BATCH, QUEUE_DELAY_US = 8, 100


@dataclass(frozen=True)
class Repository:
    """What was written.

    Attributes:
        path: the repository.
        model: its name for Triton, a folder in `path`.
        missing: files of the model that are to be built on the serving host, by `build.sh`.
        notes: what an operator must know.
    """

    path: Path
    model: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, str | list[str]]:
        """The same as plain data."""
        return {
            "repository": str(self.path),
            "model": self.model,
            "missing": list(self.missing),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The same for people, what is missing first."""
        script = self.path / self.model / "build.sh"
        built = f"is not there yet: run {script} on its GPU, with the TensorRT of your Triton"
        missing = [f"{self.path / file} {built}" for file in self.missing]
        return [*missing, *(f"note: {note}" for note in self.notes), f"{self.path / self.model}: written"]


def write_repository(
    bundles: Sequence[Bundle],
    folder: Path,
    *,
    name: str | None = None,
    max_batch: int | None = None,
    preferred: Sequence[int] = (),
    queue_delay_us: int = QUEUE_DELAY_US,
    instances: int = 1,
    force: bool = False,
) -> Repository:
    """Add a model to a repository, which is made where there is none.

    Args:
        bundles: one; of TensorRT one for each kind of GPU, all of the same model.
        folder: of the repository. Other models in it are left as they are.
        name: of the model; the bundle's when None.
        max_batch: how many requests Triton may stack, 0 for none. When None it is 8, of TensorRT what the optimization
            profiles take, where the model's first axes are open and stacking was seen to change nothing; else 0, and
            the notes say why.
        preferred: sizes that the batcher aims at; none, when `max_batch` is None of TensorRT the size that the engines
            are tuned for. Triton's documentation advises against any for other runtimes.
        queue_delay_us: how long a request may wait for others, in microseconds.
        instances: copies of the model on each GPU, or on the CPU.
        force: replace a model of that name that dsedge wrote.

    Raises:
        LoadError: DS145 for bundles that do not make one model, a name that is none, an engine for another GPU, or more
            than engines take.
        BundleError: DS803 a bundle is damaged, DS801 the model is there already, DS802 it cannot be written.
        BuildError: DS401 for what Triton cannot serve.
    """
    first = one_model(bundles)
    runtime, name = first.manifest.runtime.name, name or first.manifest.model.name
    require_place(folder, name, force=force)
    engines = engines_of(bundles) if runtime == "tensorrt" else []
    samples, notes = golden_inputs(first), _notes(bundles)
    most, usual = stacked_by_profiles(engines) if engines else (DEFAULT_BATCH, 0)
    if max_batch is None:
        why = why_not_stacked(first, samples) or (None if most else "no profile of an engine stacks requests")
        max_batch, notes = (0, [*notes, why]) if why else (most, notes)
        preferred = preferred or ([usual] if max_batch and usual > 1 else [])
    elif engines and max_batch > most:
        what = f"max_batch is {max_batch}, and the engines take {most or 1} at most"
        raise LoadError("DS145", what, because="their optimization profiles say so", hint="compile with other shapes")
    plans = {engine.capability: engine.file for engine in engines}
    config = make_config(first, name, plans, max_batch, preferred, queue_delay_us, instances)
    arrays = [array[:1] if max_batch > 0 else array for array in samples[0].values()]
    config["model_warmup"] = warmup(config, [array.shape for array in arrays])
    unbuilt = [engine for engine in engines if engine.tensorrt is None]
    with model_folder(folder, name, force=force) as place:
        _copy(first, engines, place)
        (place / "warmup").mkdir()
        for number, array in enumerate(arrays):
            (place / "warmup" / f"input_{number}").write_bytes(raw(array))
        _check(config, place, first, engines)
        header = f"{HEADER} {first.manifest.dsedge}; README.md beside it says of what."
        (place / "config.pbtxt").write_text(f"{header}\n{to_text(config)}", encoding="utf-8")
        (place / "README.md").write_text(readme(bundles, name, engines, notes), encoding="utf-8")
        if unbuilt:
            (place / "build.sh").write_text(build_script(unbuilt), encoding="utf-8")
            (place / "build.sh").chmod(0o755)
    return Repository(folder, name, tuple(f"{name}/{VERSION}/{engine.file}" for engine in unbuilt), tuple(notes))


def _notes(bundles: Sequence[Bundle]) -> list[str]:
    notes = []
    for manifest in (bundle.manifest for bundle in bundles):
        if manifest.failed:
            names = ", ".join(gate.name for gate in manifest.failed)
            notes.append(f"{manifest.target.board}: a gate failed ({names}), see the bundle's report")
    return notes


def _copy(first: Bundle, engines: Sequence[Engine], place: Path) -> None:
    """The model into the folder of its version; of an engine that is not built the whole bundle, to build it from."""
    (place / VERSION).mkdir()
    for engine in engines:
        if engine.tensorrt is not None:
            shutil.copyfile(engine.bundle.path / PLAN, place / VERSION / engine.file)
            continue
        for path in (MANIFEST, *(info.path for info in engine.bundle.manifest.files)):
            copy = place / "bundles" / engine.board / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(engine.bundle.path / path, copy)
    if not engines:
        for info in first.manifest.files:
            if info.role == "model":
                shutil.copyfile(first.path / info.path, place / VERSION / Path(info.path).name)


def _check(config: Config, place: Path, bundle: Bundle, engines: Sequence[Engine]) -> None:
    """Find out what Triton would say, by its own schema too where that is installed.

    Raises:
        BuildError: DS401.
    """
    pending = [engine.file for engine in engines if engine.tensorrt is None]
    found = problems(config, place, bundle.manifest.model, ranges_of(engines), pending)
    if schema_version():
        parse(to_text(config))
    if found:
        what, because = "Triton cannot serve it so", "; ".join(found)
        hint = "give other options for batching, or compile with other shapes"
        raise BuildError("DS401", what, where=config["name"], because=because, hint=hint)
