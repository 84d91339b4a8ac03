"""A target: the facts about one board, read from a TOML file.

A board is data. What its runtimes accept is not said here but in the contract beside each backend, because many boards
share one runtime. A file may extend another one: tables are merged, everything else is replaced.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from dsedge.errors import LoadError, did_you_mean
from dsedge.resources import data_folder, entry_points, invalid, is_path, read_toml

# Instruction-set features that change which kernels a runtime picks, and the flags of /proc/cpuinfo that show them
# (arch/x86/include/asm/cpufeatures.h, Documentation/arch/arm64/elf_hwcaps.rst in the Linux sources).
_CPU_FLAGS: dict[str, dict[str, set[str]]] = {
    "x86_64": {
        "sse4": {"sse4_1"},
        "avx2": {"avx2"},
        "avx512": {"avx512bw"},
        "vnni": {"avx_vnni", "avx512_vnni"},
        "bf16": {"avx512_bf16", "amx_bf16"},
    },
    "aarch64": {
        "neon": {"asimd"},
        "fp16": {"asimdhp"},
        "dotprod": {"asimddp"},
        "i8mm": {"i8mm"},
        "bf16": {"bf16"},
    },
    "armv7": {"neon": {"neon"}},
}
# With or without these, int8 arithmetic takes other kernels: other speed, and on x86 other saturation.
INT8_DOT_PRODUCT = {"vnni", "dotprod"}
_NOT_IN_THE_FILE = {"name", "asked_as"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv8l": "armv7"}

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Runtime(_Facts):
    """A runtime that the board has, and which versions of it (a PEP 440 range; None: any)."""

    name: str
    version: str | None = Field(None, pattern=r"^(==|!=|<=|>=|<|>|~=)\d[\w.*]*(,(==|!=|<=|>=|<|>|~=)\d[\w.*]*)*$")


class Accelerator(_Facts):
    """The device beside the CPU that runs the model.

    Attributes:
        name: for people.
        compute_capability: NVIDIA's.
        device_name: a part of what the GPU, or of a Jetson the device tree, calls itself; without it nothing that ran
            there counts as measured on this board.
        memory_mb: its own memory in MiB.
    """

    name: str
    compute_capability: str | None = Field(None, pattern=r"^\d+\.\d$")
    device_name: str | None = None
    memory_mb: PositiveInt | None = None


class Budgets(_Facts):
    """Limits that a compiled model must keep: milliseconds for one inference, MiB on disk, MiB resident."""

    latency_ms: Positive | None = None
    size_mb: Positive | None = None
    memory_mb: Positive | None = None


class Target(_Facts):
    """One board.

    Attributes:
        name: the stem of its file.
        asked_as: the short name that led here ("jetson"), None when the board was named itself.
        title: its name for people.
        family: the boards that it is one of.
        default_for: the short name that means this board.
        extends: the target whose facts it takes over.
        architecture: instruction set of the operating system's userland.
        cpu: the core, as compilers and emulators name it (-mcpu, -march); None when the board does not fix it.
        features: instruction-set features that decide which kernels run.
        cores: CPU cores; None when the board does not fix it.
        memory_mb: main memory in MiB; None when the board does not fix it.
        os: operating system.
        runtimes: the runtimes that it can have, the preferred one first.
        accelerator: what runs the model instead of the CPU.
        power_modes: the modes that the vendor's tool sets, as it names them.
        channel_multiple: channel counts that are no multiple of it waste lanes of the arithmetic unit.
        budgets: limits that a compiled model must keep.
        reach: how the board is reached to measure on it.
    """

    name: str
    asked_as: str | None = None
    title: str
    family: str
    default_for: str | None = None
    extends: str | None = None
    architecture: Literal["x86_64", "aarch64", "armv7"]
    cpu: str | None = None
    features: tuple[str, ...]
    cores: PositiveInt | None = None
    memory_mb: PositiveInt | None = None
    os: Literal["linux", "android", "windows"]
    runtimes: Annotated[tuple[Runtime, ...], Field(min_length=1)]
    accelerator: Accelerator | None = None
    power_modes: tuple[str, ...] = ()
    channel_multiple: PositiveInt = 1
    budgets: Budgets = Budgets()
    reach: Literal["ssh", "adb", "local"]

    @field_validator("features")
    @classmethod
    def _belong_to_the_architecture(cls, features: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = _CPU_FLAGS.get(info.data.get("architecture", ""), {})
        if known and (unknown := [feature for feature in features if feature not in known]):
            raise ValueError(f"{', '.join(unknown)} is no feature of this architecture, known: {', '.join(known)}")
        return features

    def matches_host(self) -> tuple[bool, str]:
        """Whether this machine's CPU stands for the board's, and why: see `matches`."""
        return self.matches(*host_isa())

    def matches(self, architecture: str, features: frozenset[str]) -> tuple[bool, str]:
        """Whether a CPU runs the same kernels as the board: a statement about the ISA, not about speed.

        The CPU must have the board's architecture and features. It may have more, except int8 dot products where the
        board has none: int8 would look faster there than it is on the board, and on x86 it would not saturate.

        Returns:
            The answer, and the reason in words. A board with an accelerator never matches.
        """
        if self.accelerator:
            return False, f"the target runs on its accelerator ({self.accelerator.name}), not on a CPU"
        if architecture != self.architecture:
            return False, f"this machine is {architecture}, the target is {self.architecture}"
        if missing := set(self.features) - features:
            return False, f"this machine's CPU lacks {', '.join(sorted(missing))}"
        if surplus := (features - set(self.features)) & INT8_DOT_PRODUCT:
            return (
                False,
                f"this machine's CPU has {', '.join(sorted(surplus))}, the target's has not: other int8 kernels",
            )
        return True, f"this machine is {architecture} with {', '.join(self.features) or 'no features asked for'}"


def host_isa() -> tuple[str, frozenset[str]]:
    """This machine's architecture and features, in the words of a target file.

    Features come from /proc/cpuinfo; where there is none (not Linux) they are empty, so that no feature is assumed.
    """
    machine = platform.machine().lower()
    architecture = _MACHINES.get(machine, machine)
    cpuinfo = Path("/proc/cpuinfo")
    return architecture, cpu_features(architecture, cpuinfo.read_text(errors="replace") if cpuinfo.exists() else "")


def cpu_features(architecture: str, cpuinfo: str) -> frozenset[str]:
    """The features that the text of /proc/cpuinfo shows; of unequal cores (big.LITTLE) what all of them have."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    cores = [set(flags.split()) for key, _, flags in lines if key.strip() in ("flags", "Features")]
    common = set.intersection(*cores) if cores else set()
    return frozenset(name for name, flags in _CPU_FLAGS.get(architecture, {}).items() if flags & common)


def known_targets() -> list[str]:
    """The boards that can be named: the shipped ones and those of installed packages, sorted.

    A package adds boards through an entry point of the group `dsedge.targets` that names a folder of TOML files or a
    module beside them. It cannot replace a shipped board.
    """
    return sorted(_files())


def load_target(name_or_path: str | Path) -> Target:
    """Reads a board.

    Args:
        name_or_path: a board ("raspberry-pi-5"), the short name of a family ("raspberry-pi": its default board, and
            `asked_as` says so), or a TOML file: anything that ends in ".toml" or holds a separator.

    Raises:
        LoadError: DS141 for a name that is not known, DS142 for a file that is invalid, with all of its problems.
    """
    if is_path(name_or_path):
        return _read(Path(name_or_path), None)
    name, files = str(name_or_path), _files()
    if name in files:
        return _read(files[name], None)
    aliases = {str(read_toml(path, "DS142").get("default_for", "")): path for path in files.values()}
    if name and name in aliases:
        return _read(aliases[name], name)
    known = [*files, *filter(None, aliases)]
    hint = f"{did_you_mean(name, known)}; a TOML file describes any other board"
    raise LoadError("DS141", f"no target is called {name!r}", hint=hint)


def _files() -> dict[str, Path]:
    folders = []
    for entry in entry_points(group="dsedge.targets"):
        try:
            found = entry.load()
            folders.append(Path(found) if isinstance(found, str | Path) else Path(found.__file__).parent)
        except Exception as error:
            because = f"{type(error).__name__}: {error}"
            what = "the package that adds targets does not load"
            raise LoadError("DS142", what, where=entry.value, because=because) from error
    folders.append(data_folder("targets"))
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _read(path: Path, asked_as: str | None) -> Target:
    facts = _merged(path, ())
    try:
        return Target(**facts, name=path.stem, asked_as=asked_as)
    except ValidationError as error:
        raise invalid(error, path, "DS142", set(Target.model_fields) - _NOT_IN_THE_FILE) from error


def _merged(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """The facts of a file on top of those of the files that it extends; `children` is the way that led here."""
    if path in children:
        chain = " -> ".join(child.stem for child in (*children, path))
        raise LoadError("DS142", f"extends: a cycle, {chain}", where=str(children[0]))
    facts = read_toml(path, "DS142")
    for reserved in sorted(_NOT_IN_THE_FILE):
        if reserved in facts:
            raise LoadError("DS142", f"{reserved}: not a field, a target is named by its file", where=str(path))
    parent = facts.get("extends")
    if not isinstance(parent, str):
        return facts
    # A file beside this one comes first, so that a user's boards can build on each other.
    bases = _files() | {file.stem: file for file in path.parent.glob("*.toml") if file != path}
    if parent not in bases:
        hint = did_you_mean(parent, bases)
        raise LoadError("DS142", f"extends: no target is called {parent!r}", where=str(path), hint=hint)
    inherited = _merged(bases[parent], (*children, path))
    inherited.pop("default_for", None)
    return _deep_merge(inherited, facts)


def _deep_merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _deep_merge(merged[key], value) if both else value
    return merged
