"""The data that travels with dsedge: boards in `targets/`, recipes in `calibration/`, all of it TOML."""

from __future__ import annotations

import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dsedge.errors import LoadError, did_you_mean

_MAX_TOML_BYTES = 1 << 20


def data_folder(name: str) -> Path:
    """The folder `name` ("targets" or "calibration"): inside an installed wheel, beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


def is_path(name: str | Path) -> bool:
    """Whether the user means a TOML file rather than a name that dsedge knows."""
    return isinstance(name, Path) or name.endswith(".toml") or "/" in name or "\\" in name


def read_toml(path: Path, code: str) -> dict[str, Any]:
    """The content of a TOML file (TOML 1.0).

    Raises:
        LoadError: with `code`, when the file is missing, larger than 1 MiB, not UTF-8 or not TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TOML_BYTES + 1)
        if len(content) > _MAX_TOML_BYTES:
            raise LoadError(code, "the file is larger than 1 MiB", where=str(path))
        return tomllib.loads(content.decode())
    except OSError as error:
        raise LoadError(code, "the file cannot be read", where=str(path), because=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise LoadError(code, "the file is not valid TOML", where=str(path), because=str(error)) from error


def invalid(error: ValidationError, path: Path, code: str, fields: set[str]) -> LoadError:
    """One error for a TOML file with everything that pydantic found wrong in it, each with its field."""
    problems, hint = [], None
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"]) or "file"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{field}: unknown field")
            hint = hint or did_you_mean(str(problem["loc"][-1]), fields)
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{field}: {message[:1].lower()}{message[1:]}")
    what = "the field is invalid" if len(problems) == 1 else f"{len(problems)} fields are invalid"
    return LoadError(code, what, where=str(path), because="; ".join(problems), hint=hint)


def entry_points(group: str) -> metadata.EntryPoints:
    """What installed packages add to a group; they are looked up once, which takes milliseconds."""
    return _all_entry_points(tuple(sys.path)).select(group=group)


@cache
def _all_entry_points(path: tuple[str, ...]) -> metadata.EntryPoints:
    """All entry points of the packages on an import path."""
    return metadata.EntryPoints(point for d in metadata.distributions() for point in d.entry_points)
