"""Makes the float network to compare with from the parsed Q/DQ graph, so that a bundle holds its weights once.

What was quantized reads the tensor before its quantizer, and weights become the float constants that their codes stand
for. (Left to the builder their codes are widened in every run: tensorrt-rtx 1.7 puts a kernel before each convolution,
which would make the float engine slower than it is.) Names and meanings: TensorRT Python API reference,
INetworkDefinition and ILayer, the same from 8.5 to 11. Only strongly typed networks need `add_cast`.
"""

import numpy as np
from trt_files import Refused


def to_floats(trt, network):
    """Take the quantizers out of a parsed network.

    Quantizers that nothing reads any more are left to the builder, which drops them. One that makes an output of the
    network stays.

    Args:
        trt: Python's tensorrt.
        network: parsed, and changed in place.

    Returns:
        Arrays that the network points to: they must live until the engine is built.

    Raises:
        Refused: for weights that numpy has no type for (INT4), or whose scale is no constant.
    """
    kinds, made, instead, readers, held = trt.LayerType, {}, {}, [], []
    for layer in [network.get_layer(i) for i in range(network.num_layers)]:
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        made.update({layer.get_output(i).name: layer for i in range(layer.num_outputs)})
        if layer.type not in (kinds.QUANTIZE, kinds.DEQUANTIZE):
            readers.append((layer, inputs))
            continue
        codes, scale = (made.get(tensor.name) for tensor in inputs[:2])
        source = instead.get(inputs[0].name, inputs[0])
        if layer.type == kinds.DEQUANTIZE and codes is not None and codes.type == kinds.CONSTANT:
            held.append(_dequantized(trt, layer, codes, scale))
            source = network.add_constant(held[-1].shape, trt.Weights(held[-1])).get_output(0)
        instead[layer.get_output(0).name] = source
    casts = {}
    for layer, inputs in readers:
        for index, tensor in enumerate(inputs):
            if tensor is not None and tensor.name in instead:
                source = instead[tensor.name]
                key = source.name, tensor.dtype
                if source.dtype != tensor.dtype and key not in casts:  # a pair converts too, where types are strong
                    casts[key] = network.add_cast(source, tensor.dtype).get_output(0)
                layer.set_input(index, casts.get(key, source))
    return held


def _dequantized(trt, layer, codes, scale):
    """The numbers that INT8 weights stand for, in the type of their scale."""
    arrays = []
    for each in (codes, scale):
        if each is not None and each.type == trt.LayerType.CONSTANT:
            each.__class__ = trt.IConstantLayer  # `get_layer` gives the base class
            arrays.append(each.weights)
    if len(arrays) < 2 or not all(isinstance(array, np.ndarray) for array in arrays):
        raise Refused("{}: its weights or their scale cannot be read as numbers".format(layer.name))
    layer.__class__ = trt.IDequantizeLayer
    axes, steps = tuple(codes.shape), arrays[1]
    shape = [steps.size if i == layer.axis and steps.size > 1 else 1 for i in range(len(axes))]
    numbers = arrays[0].reshape(axes).astype(np.float32) * steps.astype(np.float32).reshape(shape)
    return np.ascontiguousarray(numbers.astype(steps.dtype))
