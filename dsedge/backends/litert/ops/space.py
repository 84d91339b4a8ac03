"""DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CHANNELS_LAST, Emitter, Op


def depth_to_space(e: Emitter, node: ir.Node) -> None:
    """DepthToSpace: DEPTH_TO_SPACE where a block lies across the channels (DCR); CRD by a TRANSPOSE of five axes.

    With one channel both are the same.
    """
    assert node.inputs[0] is not None
    block = node.attributes.get_int("blocksize")
    x = e.tensor(node, 0, CHANNELS_LAST[4])
    out = e.output(node, CHANNELS_LAST[4])
    if out.shape[3] == 1 or node.attributes.get_string("mode", "DCR") == "DCR":
        e.op("DEPTH_TO_SPACE", [x], [out], e.options("DepthToSpaceOptions", blockSize=block))
        return
    n, height, width, _ = x.shape
    channels = out.shape[3]
    split = e.temporary("split", (n * height, width, channels, block, block), x)
    mixed = e.temporary("mixed", (n * height, block, width, block, channels), x)
    e.reshape(x, split)
    e.op(
        "TRANSPOSE",
        [split, e.constant("axes", np.array([0, 3, 1, 4, 2], np.int32))],
        [mixed],
        e.options("TransposeOptions"),
    )
    e.reshape(mixed, out)


def space_to_depth(e: Emitter, node: ir.Node) -> None:
    """SpaceToDepth: SPACE_TO_DEPTH."""
    block = node.attributes.get_int("blocksize")
    x = e.tensor(node, 0, CHANNELS_LAST[4])
    out = e.output(node, CHANNELS_LAST[4])
    e.op("SPACE_TO_DEPTH", [x], [out], e.options("SpaceToDepthOptions", blockSize=block))


OPS = {
    "DepthToSpace": Op(depth_to_space, codes=(0,), same=True),
    "SpaceToDepth": Op(space_to_depth, codes=(0,), same=True),
}
