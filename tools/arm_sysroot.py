"""ARM boards without a board: Python, numpy and a TFLite runtime for ARM, emulated by qemu on this machine.

    python tools/arm_sysroot.py                      make the sysroots, on Debian, in build/arm
    python tools/arm_sysroot.py cortex-a72 BUNDLE    check the golden outputs of a bundle on that CPU

The first needs `apt-get`, pip and a network, no root, and less than a minute; what is there already stays. Debian's
packages for ARM and qemu are unpacked into folders of their own, so that nothing on this machine changes.

The second prints what the bundle's `run.py` prints, and `emulated`. There is no way to ask it for a latency: emulated
time says nothing about a board's. The CPU is always named: qemu 7.2's default computes wrong int8. ai-edge-litert 2.2
and 2.3 for aarch64 crash in this qemu, 2.1.6 does not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1] / "build" / "arm"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PYTHON = (
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8"
).split()


@dataclass(frozen=True)
class Architecture:
    """What a sysroot is made of.

    Attributes:
        emulator: the program of qemu.
        packages: Debian's.
        wheels: what pip installs, without dependencies.
        platforms: their platform tags.
        links: symbolic links of shared libraries, as Debian's alternatives make them.
    """

    emulator: str
    packages: Sequence[str]
    wheels: Sequence[str]
    platforms: Sequence[str]
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Cpu:
    """A CPU as Linux describes it in /proc/cpuinfo; `part` is Arm's number for it."""

    architecture: str
    part: str
    features: str


ARCHITECTURES = {
    "arm64": Architecture(
        "qemu-aarch64-static",
        _PYTHON,
        ("ai-edge-litert==2.1.6", "numpy==2.3.5"),
        [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 17)],
    ),
    # PyPI has no numpy for 32-bit ARM.
    "armhf": Architecture(
        "qemu-arm-static",
        [*_PYTHON, "python3-numpy", "libblas3", "liblapack3", "libgfortran5"],
        ("tflite-runtime==2.14.0",),
        ["manylinux_2_34_armv7l"],
        [(f"usr/lib/arm-linux-gnueabihf/lib{n}.so.3", f"{n}/lib{n}.so.3") for n in ("blas", "lapack")],
    ),
}
CPUS = {
    "cortex-a7": Cpu("armhf", "0xc07", "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae"),
    "cortex-a53": Cpu("arm64", "0xd03", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": Cpu("arm64", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Cpu(
        "arm64",
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}


class Unavailable(Exception):
    """An emulated board is missing; the text says why."""


def ready() -> bool:
    """Whether the sysroots are there, as this file describes them."""
    stamp = HOME / "recipe"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _recipe()


def python(cpu: str) -> tuple[list[str], dict[str, str]]:
    """The command of Python on an emulated CPU, one of CPUS, and its environment."""
    architecture = CPUS[cpu].architecture
    tree, emulator = HOME / architecture, HOME / "qemu" / ARCHITECTURES[architecture].emulator
    paths = (tree / "site", tree / "usr" / "lib" / "python3" / "dist-packages")
    command = (emulator, "-L", HOME / cpu, "-cpu", cpu, tree / "usr" / "bin" / "python3.11")
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    return [str(part) for part in command], environment


def run_bundle(cpu: str, bundle: Path) -> dict[str, Any]:
    """Check the golden outputs of a bundle on an emulated CPU, with its own `run.py`.

    Returns:
        What `run.py` prints, and `emulated`: as which CPU, by what. No latency: emulated time says nothing about it.

    Raises:
        Unavailable: the sysroot is missing, or `run.py` ends without a result.
    """
    if not ready():
        raise Unavailable("no ARM sysroot: run tools/arm_sysroot.py")
    command, environment = python(cpu)
    line = [*command, str(bundle / "run.py"), "--threads", "1"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    try:
        printed: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise Unavailable(f"run.py on {cpu}: {done.stderr.strip() or f'exit code {done.returncode}'}") from None
    version = run(command[0], "--version").split("(")[0].strip()
    return {**printed, "emulated": f"{cpu} by {version}"}


def make() -> None:
    """Make the sysroots.

    Raises:
        Unavailable: a tool is missing, or something cannot be downloaded.
    """
    missing = [program for program in ("apt-get", "dpkg", "dpkg-deb", "tar") if shutil.which(program) is None]
    if missing or not _KEYRING.is_file():
        raise Unavailable(f"{missing[0] if missing else _KEYRING} is missing: they are made of Debian's packages")
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent, prefix="arm-") as name:
        made = Path(name) / "arm"
        _unpack(made, _download(Path(name)))
        for architecture, parts in ARCHITECTURES.items():
            platforms = [word for platform in parts.platforms for word in ("--platform", platform)]
            install(made / architecture / "site", parts.wheels, "--python-version=3.11", *platforms)
        for cpu in CPUS:
            _describe(made, cpu)
        (made / "recipe").write_text(_recipe(), encoding="utf-8")
        shutil.rmtree(HOME, ignore_errors=True)
        made.rename(HOME)


def _recipe() -> str:
    return repr((ARCHITECTURES, CPUS))


def _download(folder: Path) -> Path:
    """Debian's packages, fetched by an apt with a state of its own, which trusts what Debian has signed."""
    host = run("dpkg", "--print-architecture").strip()
    for name in ("packages", "state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    source = f"deb [signed-by={_KEYRING}] http://deb.debian.org/debian bookworm main\n"
    (folder / "sources.list").write_text(source, encoding="utf-8")
    (folder / "status").touch()
    architectures = " ".join(f'"{name}";' for name in dict.fromkeys((host, *ARCHITECTURES)))
    options = {
        "APT::Architecture": f'"{host}"',
        "APT::Architectures": f"{{ {architectures} }}",
        "APT::Sandbox::User": '"root"',
        "APT::Update::Error-Mode": '"any"',
        "Acquire::Retries": '"1"',
        "Acquire::http::Timeout": '"20"',
        "Dir::State": f'"{folder}/state"',
        "Dir::State::status": f'"{folder}/status"',
        "Dir::Cache": f'"{folder}/cache"',
        "Dir::Etc::SourceList": f'"{folder}/sources.list"',
        "Dir::Etc::SourceParts": '"/dev/null"',
    }
    configuration = folder / "apt.conf"
    configuration.write_text("".join(f"{key} {value};\n" for key, value in options.items()), encoding="utf-8")
    environment = os.environ | {"APT_CONFIG": str(configuration)}
    wanted = [f"{package}:{name}" for name, parts in ARCHITECTURES.items() for package in parts.packages]
    run("apt-get", "-qq", "update", env=environment)
    run("apt-get", "-qq", "download", f"qemu-user-static:{host}", *wanted, env=environment, cwd=folder / "packages")
    return folder / "packages"


def _unpack(made: Path, packages: Path) -> None:
    """Debian's /lib is a link to /usr/lib, which unpacking must keep."""
    for name in ARCHITECTURES:
        (made / name / "usr" / "lib").mkdir(parents=True)
        (made / name / "lib").symlink_to("usr/lib")
        for package in sorted(packages.glob(f"*_{name}.deb")):
            _extract(package, made / name)
        for link, target in ARCHITECTURES[name].links:
            (made / name / link).symlink_to(target)
    (package,) = packages.glob("qemu-user-static_*.deb")
    _extract(package, Path(f"{packages}-qemu"))
    (made / "qemu").mkdir()
    for parts in ARCHITECTURES.values():
        shutil.copy(Path(f"{packages}-qemu") / "usr" / "bin" / parts.emulator, made / "qemu")


def _extract(package: Path, tree: Path) -> None:
    tree.mkdir(exist_ok=True)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", str(tree)], stdin=archive.stdout, check=True)


def _describe(made: Path, name: str) -> None:
    """A root of a CPU: the files that tell its programs about it, beside what all of its architecture share.

    XNNPACK reads them; qemu 7.2 would show those of this machine.
    """
    cpu, root = CPUS[name], made / name
    for part in ("usr", "lib"):
        root.mkdir(exist_ok=True)
        (root / part).symlink_to(Path("..") / cpu.architecture / part)
    lines = {
        "Features": cpu.features,
        "CPU implementer": "0x41",
        "CPU architecture": "7" if cpu.architecture == "armhf" else "8",
        "CPU variant": "0x0",
        "CPU part": cpu.part,
        "CPU revision": "0",
    }
    text = "".join(f"{key}\t: {value}\n" for key, value in lines.items())
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text(
        "".join(f"processor\t: {core}\n{text}\n" for core in range(4)), encoding="utf-8"
    )
    cores = root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for which in ("possible", "present", "online"):
        (cores / which).write_text("0-3\n", encoding="utf-8")


def install(folder: Path, wheels: Sequence[str], *options: str) -> None:
    """Install wheels, and not what they depend on, with pip into a folder.

    Raises:
        Unavailable: pip cannot.
    """
    quiet = ("--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--timeout=20", "--retries=1")
    exact = ("--no-deps", "--only-binary=:all:", *options)
    run(sys.executable, "-m", "pip", "install", *quiet, *exact, "--target", folder, *wheels)


def interpreter(version: str) -> str:
    """The Python of a version on this machine.

    Raises:
        Unavailable: there is none that starts.
    """
    try:
        return run(shutil.which(f"python{version}") or "", "-c", "import sys; print(sys.executable)").strip()
    except (OSError, Unavailable):
        raise Unavailable(f"no python{version} can be started") from None


def run(*line: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command.

    Returns:
        What it printed.

    Raises:
        Unavailable: it failed, with the first error that it said.
    """
    words = [str(word) for word in line]
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [*(done.stderr or done.stdout).strip().splitlines(), f"exit code {done.returncode}"]
        errors = [text for text in said if text.startswith(("E:", "ERROR:"))]
        raise Unavailable(f"{Path(words[0]).name}: {(errors or said)[0]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cpu", nargs="?", choices=CPUS, help="run a bundle on it")
    parser.add_argument("bundle", nargs="?", type=Path, help="its folder")
    arguments = parser.parse_args()
    if (arguments.cpu is None) != (arguments.bundle is None):
        parser.error("a CPU and a bundle, or neither")
    try:
        if arguments.cpu is not None:
            result = run_bundle(arguments.cpu, arguments.bundle)
            print(json.dumps(result))
            return 0 if result["passed"] else 1
        if ready():
            print(f"{HOME}: is there already")
            return 0
        make()
    except Unavailable as reason:
        print(f"arm_sysroot.py: {reason}", file=sys.stderr)
        return 3
    print(f"{HOME}: made, {', '.join(CPUS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
