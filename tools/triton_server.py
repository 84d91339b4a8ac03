"""Triton on this machine, without a container: what the repositories of `dsedge emit triton` are tried on.

    python tools/triton_server.py
    python tools/triton_server.py REPOSITORY

Installs nvidia-pytriton with pip into build/triton: the core of Triton, with no backend but Python's. Of that
`triton_backend.py` makes one for ONNX Runtime; there is none for TensorRT and OpenVINO. Given a repository it loads it,
and prints the state of each model. `tests/emit` uses it where it is; what is there already stays.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arm_sysroot import Unavailable, install, run

HOME = Path(__file__).resolve().parents[1] / "build" / "triton"
WHEEL = "nvidia-pytriton==0.7.0"
_SERVER = HOME / "pytriton" / "tritonserver"
_SECONDS = 60


def ready() -> bool:
    """Whether it is installed."""
    return (_SERVER / "backends" / "onnxruntime" / "model.py").is_file()


def make() -> None:
    """Install it.

    Raises:
        Unavailable: there is no network, or no such wheel or libpython for this machine.
    """
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent) as name:
        made = Path(name) / "triton"
        install(made, [WHEEL])
        server = made / "pytriton" / "tritonserver"
        stub = server / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
        if not stub.is_file() or "not found" in run("ldd", stub):
            raise Unavailable(f"its Python backend does not start with Python 3.{sys.version_info.minor}")
        shutil.copy(stub, server / "backends" / "python")
        for program in (server / "backends" / "python" / stub.name, server / "bin" / "tritonserver"):
            program.chmod(0o755)
        (server / "backends" / "onnxruntime").mkdir()
        backend = Path(__file__).resolve().with_name("triton_backend.py")
        (server / "backends" / "onnxruntime" / "model.py").symlink_to(backend)
        shutil.rmtree(HOME, ignore_errors=True)
        made.rename(HOME)


@contextmanager
def serve(repository: Path, work: Path) -> Iterator[str]:
    """Triton with a repository for as long as the block runs: its URL. Models that it refuses are left out.

    Args:
        repository: its folder.
        work: where `triton.log` is written, and `executions`, see `triton_backend.py`.

    Raises:
        Unavailable: it does not start, with the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(_SERVER / "bin" / "tritonserver", f"--model-repository={repository}"),
        *(f"--backend-directory={_SERVER / 'backends'}", "--exit-on-error=false", "--strict-readiness=false"),
        *("--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"),
    ]
    packages = os.pathsep.join(path for path in sys.path if Path(path).name == "site-packages")
    own = {"SITE_PACKAGES": packages, "EXECUTIONS": str(work / "executions"), "OMP_NUM_THREADS": "1"}
    log = work / "triton.log"
    with log.open("w") as file, subprocess.Popen(command, env=os.environ | own, stdout=file, stderr=file) as server:
        try:
            url = f"http://127.0.0.1:{port}/v2"
            until = time.monotonic() + _SECONDS
            while server.poll() is None and time.monotonic() < until and not _answers(f"{url}/health/ready"):
                time.sleep(0.1)
            if not _answers(f"{url}/health/ready"):
                raise Unavailable(f"Triton does not start:\n{log.read_text()[-2000:]}")
            yield url
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_SECONDS)
            server.kill()


def ask(url: str, body: Any = None) -> Any:
    """The answer to a question, plain data both; a refusal is its text."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=_SECONDS) as answer:
            return json.loads(answer.read() or "null")
    except urllib.error.HTTPError as error:
        return error.read().decode()


def states(url: str) -> dict[str, str]:
    """Each model -> "READY", or why it was refused."""
    return {
        row["name"]: row.get("reason") or row.get("state", "not read") for row in ask(f"{url}/repository/index", {})
    }


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", nargs="?", type=Path, metavar="REPOSITORY")
    repository = parser.parse_args().repository
    try:
        if not ready():
            make()
        if repository is None:
            print(HOME)
            return 0
        with tempfile.TemporaryDirectory() as work, serve(repository.resolve(), Path(work)) as url:
            found = states(url)
    except Unavailable as reason:
        print(f"triton_server.py: {reason}", file=sys.stderr)
        return 3
    for name, state in sorted(found.items()):
        print(f"{name}: {state}")
    return 0 if set(found.values()) == {"READY"} else 1


if __name__ == "__main__":
    sys.exit(main())
