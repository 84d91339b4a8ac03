"""Triton's own schema reads the configurations that `dsedge emit triton` writes.

    python tools/triton_schema.py
    python tools/triton_schema.py REPOSITORY

Installs tritonclient, which holds the schema, with pip into build/tritonclient: beside the environment and not into it,
because it takes only older releases of protobuf and ml-dtypes. Given a repository it reads the configuration of each
model. `tests/emit` uses it where it is; what is there already stays.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm_sysroot import Unavailable, install, run

HOME = Path(__file__).resolve().parents[1] / "build" / "tritonclient"
WHEELS = ("tritonclient==2.73.0", "protobuf==6.33.6", "grpcio==1.85.1", "python-rapidjson==1.25")
_READ = """
import json, pathlib, sys
from dsedge.emit.triton.text import parse
from dsedge.errors import DsedgeError
for path in sys.argv[1:]:
    try:
        print(json.dumps(parse(pathlib.Path(path).read_text(encoding="utf-8"))))
    except DsedgeError as error:
        print(json.dumps(str(error)))
"""


def ready() -> bool:
    """Whether it is installed."""
    return (HOME / "tritonclient" / "grpc" / "model_config_pb2.py").is_file()


def make() -> None:
    """Install it.

    Raises:
        Unavailable: there is no network, or no such wheel for this machine.
    """
    HOME.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME.parent) as name:
        made = Path(name) / "tritonclient"
        install(made, WHEELS)
        made.rename(HOME)


def read(configs: Sequence[Path]) -> list[dict[str, Any] | str]:
    """Each configuration as `dsedge.emit.triton.text.parse` gives it, or why Triton cannot read it.

    Raises:
        Unavailable: the schema cannot be loaded.
    """
    path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    printed = run(sys.executable, "-c", _READ, *configs, env=os.environ | {"PYTHONPATH": path})
    return [json.loads(line) for line in printed.splitlines()]


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
        configs = sorted(repository.glob("*/config.pbtxt"))
        found = read(configs)
    except Unavailable as reason:
        print(f"triton_schema.py: {reason}", file=sys.stderr)
        return 3
    for config, said in zip(configs, found, strict=True):
        print(f"{config.parent.name}: {said if isinstance(said, str) else 'read'}")
    return 0 if configs and not any(isinstance(said, str) for said in found) else 1


if __name__ == "__main__":
    sys.exit(main())
