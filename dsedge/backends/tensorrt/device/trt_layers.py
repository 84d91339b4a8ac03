"""What the engine inspector says of an engine's layers: which nodes of the graph run in INT8, what runs on the DLA.

Engines say the ONNX nodes of a layer in "Metadata" from TensorRT 8.6 on, before that only in the layer's name
("conv1 + relu1"). A tensor's type stands in "Format/Datatype" up to TensorRT 10, and in fields of its own from 11 on.
"""

import json
import re

_INT8 = re.compile(r"(?<!u)int8", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\[]|$)")
_JOINED = re.compile(r" \+ | \|\| ")
_AROUND = ("kgen", "signal", "wait", "reformat", "noop", "shuffle", "copy")
"""Kinds of layers that move, convert or wait: a node counts as what another layer computes of it."""


def read_layers(text):
    """The layers of the inspector's JSON, each a dict.

    Raises:
        ValueError: when it is not that, or the engine was built without details.
    """
    layers = json.loads(text).get("Layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(
            "the layer information holds no details: the engine was built without detailed profiling verbosity"
        )
    return layers


def coverage(layers, planned):
    """Which planned nodes run in INT8.

    Args:
        layers: from `read_layers`.
        planned: names of nodes of the graph.

    Returns:
        The nodes of which a layer reads INT8, and for each other one in words what the engine does instead.
    """
    nodes = [(layer, _nodes_of(layer)) for layer in layers]
    codes, others = [], {}
    for name in planned:
        held = [layer for layer, names in nodes if name in names]
        held = [layer for layer in held if not _kind(layer).startswith(_AROUND)] or held
        if any(_reads_int8(layer) for layer in held):
            codes.append(name)
        elif held:
            others[name] = "computed in float by {}".format(_kind(held[0]) or "a layer without a type")
        else:
            others[name] = "named by none of the engine's layers: folded, or fused without a trace"
    return codes, others


def dla(layers):
    """How many layers run on the DLA, and how many of those that compute on the GPU."""
    kinds = [_kind(layer) for layer in layers]
    return {
        "on_dla": kinds.count("dla"),
        "on_gpu": sum(kind != "dla" and not kind.startswith(_AROUND) for kind in kinds),
    }


def _kind(layer):
    return str(layer.get("LayerType", "")).lower()


def _nodes_of(layer):
    found = set(_NODE.findall(str(layer.get("Metadata", ""))))
    return found or set(_JOINED.split(str(layer.get("Name", ""))))


def _reads_int8(layer):
    tensors = [t for t in layer.get("Inputs") or [] if isinstance(t, dict)]
    said = [v for t in tensors for k, v in t.items() if k.lower().startswith(("format", "datatype"))]
    return any(_INT8.search(str(value)) for value in said)
