"""One opset for everything that follows."""

from __future__ import annotations

import onnx_ir as ir
from onnx import version_converter

from dsedge.errors import LoadError
from dsedge.passes.base import Pass
from dsedge.passes.detach import attach_weights, detach_weights, forget_maps
from dsedge.passes.edit import nodes

CANONICAL_OPSET = 20
_OLDEST = 7  # ONNX Runtime guarantees nothing below, and the converter mishandles the broadcasting of that time
_BATCHED_SCAN = 8
_IR_VERSION = 9  # the lowest version of the file format that holds this opset


class UpgradeOpset(Pass):
    """Brings the default operator set to the canonical version, 20.

    What:
        `onnx.version_converter` over the graph and its subgraphs. Weights stay outside of it: they are replaced by
        inputs for the conversion, so that their size does not matter.
    Why:
        Attributes became inputs and defaults changed between versions; the other passes and the contracts know one
        form. Quantization per channel needs opset 13, and opset 20 has Gelu.
    When not:
        The model has opset 20 or a newer one, which is kept. Other domains are not touched. Below opset 7 the model is
        refused.
    Cost:
        One serialization of the graph without its weights. Operators whose meaning changed, such as Softmax before
        opset 13, come with nodes around them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Converts the graph.

        Raises:
            LoadError: DS108, the converter refuses the model.
        """
        source = model.opset_imports.get("")
        if source is not None and source >= CANONICAL_OPSET:
            return ir.passes.PassResult(model, False)
        if next(nodes(model), None) is None:
            model.opset_imports[""] = CANONICAL_OPSET
        else:
            _convert(model, source or 0)
        model.ir_version = max(model.ir_version, _IR_VERSION)
        return ir.passes.PassResult(model, True)


def _convert(model: ir.Model, source: int) -> None:
    if source < _OLDEST:
        raise _refused(source, f"models are read from opset {_OLDEST} on")
    if source <= _BATCHED_SCAN and any(node.op_type == "Scan" for node in nodes(model)):
        raise _refused(source, f"Scan had a batch axis up to opset {_BATCHED_SCAN}, and the converter ignores it")
    weights = detach_weights(model.graph)
    try:
        proto = version_converter.convert_version(ir.to_proto(model), CANONICAL_OPSET)
    except Exception as error:
        raise _refused(source, str(error).strip() or type(error).__name__) from error
    forget_maps(proto.graph)
    graph = ir.from_proto(proto).graph
    attach_weights(graph, weights)
    _restore_names(model.graph, graph)
    model.graph = graph
    if source <= 10:
        _keep_old_resize(model)


def _refused(source: int, because: str) -> LoadError:
    return LoadError(
        "DS108",
        f"opset {source} cannot be brought to opset {CANONICAL_OPSET}",
        because=because,
        hint=f"export the model again with opset {CANONICAL_OPSET}",
    )


def _restore_names(old: ir.Graph, new: ir.Graph) -> None:
    """The converter drops the name of a node that becomes another operator."""
    before = {node.outputs[0].name: node for node in old.all_nodes()}
    kept = {node.name for node in new.all_nodes()}
    for node in new.all_nodes():
        origin = before.get(node.outputs[0].name)
        if origin is not None and not node.name and origin.name not in kept:
            node.name = origin.name


def _keep_old_resize(model: ir.Model) -> None:
    """Upsample and Resize map coordinates asymmetrically up to opset 10; the converter leaves the later default."""
    for node in nodes(model):
        if node.op_type == "Resize":
            node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
            node.attributes.add(ir.AttrString("nearest_mode", "floor"))
