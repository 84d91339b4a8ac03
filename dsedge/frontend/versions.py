"""Versions that an ONNX file declares: of its operators, and of the file format itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsedge.errors import LoadError
from dsedge.frontend.tensors import HINT_BROKEN, graphs, nodes

if TYPE_CHECKING:
    import onnx

_MIN_OPSET = 7
_MIN_IR, _MAX_IR = 4, 10
"""From 4 on, initializers need not be inputs, which allows more and means the same. Exporters write the newest version
that they know although nothing of it is used, and runtimes refuse a version that they do not know."""


def settle_versions(proto: onnx.ModelProto, source: str) -> int:
    """Write the default domain as "", and a version of the file format that every runtime reads.

    Args:
        proto: the model, changed in place.
        source: how to name it to people.

    Returns:
        The opset of the default domain; 0 when no operator is of that domain.

    Raises:
        LoadError: DS102 when no opset, none for the default domain, or two of them are declared; DS108 when the file is
            newer than what can be read, or the opset is out of range.
    """
    import onnx

    if proto.ir_version > onnx.IR_VERSION:
        what = f"the file format has version {proto.ir_version}, which is newer than {onnx.IR_VERSION}"
        raise LoadError("DS108", what, where=source, hint="export the model with an older onnx, or update onnx here")
    proto.ir_version = min(max(proto.ir_version, _MIN_IR), _MAX_IR)
    if not proto.opset_import:
        raise LoadError("DS102", "the model declares no opset", where=source, hint=HINT_BROKEN)
    for named in (
        *proto.opset_import,
        *(o for function in proto.functions for o in function.opset_import),
        *nodes(proto),
    ):
        if named.domain == "ai.onnx":
            named.domain = ""
    declared = sorted({o.version for o in proto.opset_import if o.domain == ""})
    newest = onnx.defs.onnx_opset_version()
    if len(declared) > 1:
        raise LoadError("DS102", f"the model declares opset {declared[0]} and {declared[-1]}", where=source)
    if not declared:
        used = next((node.op_type for graph in graphs(proto) for node in graph.node if node.domain == ""), None)
        if used is not None:
            what = f"{used} is an operator of ai.onnx, and the model declares no opset of that domain"
            raise LoadError("DS102", what, where=source, hint=HINT_BROKEN)
        return 0
    if not _MIN_OPSET <= declared[0] <= newest:
        hint = f"export with opset {_MIN_OPSET} to {newest}"
        raise LoadError("DS108", f"opset {declared[0]} is not supported", where=source, hint=hint)
    return int(declared[0])
