"""Files of weights alone, with a function of the user's that makes the module they belong to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsedge.errors import BuildError, LoadError, did_you_mean
from dsedge.frontend.archive import open_archive
from dsedge.frontend.formats import PICKLE, Format, refusal
from dsedge.frontend.shapes import Shapes
from dsedge.frontend.torch import load_module, require_torch
from dsedge.model import Model
from dsedge.user_code import current_folder_first

if TYPE_CHECKING:
    import torch

Factory = str | Callable[[], Any]
"""`package.module:function` or the function itself: it returns a module, or a module and its example inputs."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 4  # keys


def load_weights(
    path: Path, kind: Format, factory: Factory, example_inputs: Any = None, shapes: Shapes | None = None
) -> Model:
    """Load weights into the module that a factory makes, and export it.

    The factory is the user's code and is run: a module is looked for in the current folder first, as `python -m` does.

    Args:
        path: a state_dict as `torch.save` writes it, or a safetensors file. Pickles that hold more than tensors and
            plain containers are refused.
        kind: what `recognise` said.
        factory: makes the module.
        example_inputs: in the place of those of the factory.
        shapes: in the place of example inputs.

    Raises:
        LoadError: DS101 to DS103 for the file, DS107 when the weights do not fit the module or it cannot be exported,
            DS145 for the factory.
        BuildError: DS402 when a package is missing.
    """
    require_torch()
    import torch

    state = _read(path, kind)
    shown = factory if isinstance(factory, str) else getattr(factory, "__qualname__", str(factory))
    with current_folder_first():
        try:
            made = (_find(factory) if isinstance(factory, str) else factory)()
        except LoadError:
            raise
        except Exception as error:  # the user's code
            because = f"{type(error).__name__}: {error}"
            raise LoadError("DS145", "the factory failed", where=shown, because=because) from error
        module, own = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(module, torch.nn.Module):
            what = f"the factory returns a {type(module).__name__}"
            raise LoadError("DS145", what, where=shown, hint="return the module, or (module, example_inputs)")
        _assign(module, _unwrap(state), str(path))
        examples = example_inputs if example_inputs is not None else None if shapes else own
        return load_module(module, examples, shapes, name=path.stem, source=f"{path} in {shown}")


def _read(path: Path, kind: Format) -> Mapping[str, Any]:
    import torch

    if kind == "safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            hint = "pip install 'dsedge[torch]'"
            raise BuildError("DS402", "reading a .safetensors file needs safetensors", hint=hint) from error
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise LoadError("DS102", "a damaged safetensors file", where=str(path), because=str(error)) from error
    if kind == "checkpoint":
        open_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile file leads to
        raise refusal(PICKLE, path) from error
    if not isinstance(state, Mapping):
        what = f"the file holds a {type(state).__name__}, not the weights of a module by name"
        raise LoadError("DS103", what, where=str(path), hint="save model.state_dict()")
    return state


def _unwrap(state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors by name, without the wrappers that training scripts put around them."""
    for key in _WRAPPERS:
        if isinstance(inner := state.get(key), Mapping):
            return _unwrap(inner)
    parallel = all(key.startswith("module.") for key in state if isinstance(key, str))
    return {str(key).removeprefix("module.") if parallel else str(key): value for key, value in state.items()}


def _assign(module: torch.nn.Module, state: dict[str, Any], where: str) -> None:
    wanted = module.state_dict()
    problems = []
    for what, keys in (("missing", wanted.keys() - state.keys()), ("unexpected", state.keys() - wanted.keys())):
        if keys:
            listed = ", ".join(sorted(keys)[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
            problems.append(f"{len(keys)} {what}: {listed}")
    for name in sorted(wanted.keys() & state.keys()):
        found, needed = (list(getattr(side[name], "shape", ())) for side in (state, wanted))
        if found != needed:
            problems.append(f"{name} is {found} in the file, {needed} in the module")
    if problems:
        shown = "\n".join(problems[: 2 * _SHOWN])
        what = "the weights do not fit the module"
        raise LoadError(
            "DS107", what, where=where, because=shown, hint="the factory must make the model that was trained"
        )
    module.load_state_dict(state)


def _find(factory: str) -> Callable[[], Any]:
    name, colon, function = factory.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), function)):
        raise LoadError("DS145", f"{factory!r} is no factory", hint="write package.module:function")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        hint = "the module is looked for in the current folder and among the installed packages"
        raise LoadError("DS145", f"cannot import {name!r}", where=factory, because=str(error), hint=hint) from error
    found = getattr(module, function, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        what = f"{name!r} has no function {function!r}"
        raise LoadError("DS145", what, where=factory, hint=did_you_mean(function, known))
    return found  # type: ignore[no-any-return]
