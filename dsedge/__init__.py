"""dsedge: a trained model and a device in, a verified INT8 bundle out.

import dsedge
bundle = dsedge.compile("model.onnx", target="raspberry-pi-5", calibration="calibration.npz")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsedge.bundle import Bundle
    from dsedge.compiler import compile
    from dsedge.errors import DsedgeError
    from dsedge.frontend import load
    from dsedge.model import Model

# Released builds of ONNX Runtime report usage to their maker, from a device ID in the user's cache folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Bundle", "DsedgeError", "Model", "__version__", "compile", "load"]

# Imported when first used, so that `dsedge --help` and error paths stay fast.
_HOMES = {
    "Bundle": "dsedge.bundle",
    "DsedgeError": "dsedge.errors",
    "Model": "dsedge.model",
    "compile": "dsedge.compiler",
    "load": "dsedge.frontend",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dsedge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
