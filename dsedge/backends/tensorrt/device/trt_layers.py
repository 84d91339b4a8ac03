"""What the engine inspector says of an engine's layers: which nodes of the graph run in INT8, what runs on the DLA.

Of a subgraph that TensorRT's second compiler took as a whole ("Myelin", named after its ends: "{ForeignNode[a...b]}")
it says neither which nodes are in it nor in what they compute.

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
    read = json.loads(text)
    layers = read.get("Layers") if isinstance(read, dict) else None
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
        The nodes whose layer reads INT8; for each other one in words what the engine does instead; and those of which
        that cannot be told, with the reason.
    """
    nodes = [(layer, _nodes_of(layer)) for layer in layers]
    wholes = [layer for layer in layers if _is_whole(layer)]
    codes, others, unknown = [], {}, {}
    for name in planned:
        held = [layer for layer, names in nodes if name in names]
        held = [layer for layer in held if not _kind(layer).startswith(_AROUND)] or held
        if any(_is_whole(layer) for layer in held) or (wholes and not held):
            unknown[name] = "in a subgraph of which the engine says no more than its ends"
        elif any(_reads_int8(layer) for layer in held):
            codes.append(name)
        elif held:
            others[name] = "computed in float by {}".format(_kind(held[0]) or "a layer without a type")
        else:
            others[name] = "named by none of the engine's layers: folded, or fused without a trace"
    return codes, others, unknown


def told(found, planned):
    """A sentence on {"int8", "unknown"}, as `coverage` gives them."""
    text = "{} of {} planned nodes run in INT8".format(len(found["int8"]), len(planned))
    return text + (", of {} it cannot be told".format(len(found["unknown"])) if found["unknown"] else "")


def dla(layers):
    """How many layers run on the DLA, and how many of those that compute on the GPU."""
    kinds = [_kind(layer) for layer in layers]
    return {
        "on_dla": kinds.count("dla"),
        "on_gpu": sum(kind != "dla" and not kind.startswith(_AROUND) for kind in kinds),
    }


def _kind(layer):
    return str(layer.get("LayerType", "")).lower()


def onnx_nodes(metadata):
    """Names of the nodes in a layer's metadata."""
    return set(_NODE.findall(metadata))


def _nodes_of(layer):
    return onnx_nodes(str(layer.get("Metadata", ""))) or set(_JOINED.split(str(layer.get("Name", ""))))


def _is_whole(layer):
    return _kind(layer) == "myelin" or str(layer.get("Name", "")).startswith("{ForeignNode[")


def _reads_int8(layer):
    """By its first input: a product in float may have a residual in INT8 behind it."""
    first = (layer.get("Inputs") or [None])[0]
    said = first.items() if isinstance(first, dict) else ()
    return any(_INT8.search(str(v)) for k, v in said if k.lower().startswith(("format", "datatype")))
