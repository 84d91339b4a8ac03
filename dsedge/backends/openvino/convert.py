"""Convert: an ONNX graph as an OpenVINO model.

`openvino.convert_model` does the same, and reports each use to its maker over the network. Here the frontend and the
transformations that it runs are called themselves. Without those transformations Q/DQ pairs do not become FakeQuantize
operators, and the plugin leaves some layers in float.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx_ir as ir


def convert(model: ir.Model, *, partially: bool = False) -> Any:
    """An `openvino.Model`, whose operators bear the names of the nodes.

    Args:
        model: a float or Q/DQ graph.
        partially: leave operators that cannot be converted in the model as they are, instead of raising.

    Raises:
        Exception: of the frontend, when it cannot read a node.
    """
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="weights")
        read = frontend.load(str(path))
        if partially:
            return frontend.convert_partially(read)
        converted = frontend.convert(read)
        apply_moc_transformations(converted, cf=False)
        return converted
