"""OpenVINO's contract for x86: Q/DQ on the inputs of what pays in INT8, and nowhere else.

Its CPU plugin takes a quantizer up into whatever operator stands before it, activations and residual sums between them
included. So a value needs a pair only where INT8 reads it, and what lies between an operator and that pair is computed
in float inside of one kernel, which is more exact and costs nothing. `tools/compare_peers.py` measures it.
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.quant.conditions import gemm_axis, matrix_weight, values_only
from dsedge.quant.contract import Contract, NumberFormat, OpRule, follows, fuses, shares, stays_float, weighted, within
from dsedge.target import Target

_ACTIVATIONS = "Relu Clip LeakyRelu PRelu Elu Gelu HardSwish HardSigmoid Sigmoid Tanh Mish Softplus"
_COPIES = "Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather DepthToSpace SpaceToDepth"


def _in_groups(node: ir.Node) -> str | None:
    return "in groups it has no INT8 kernel" if node.attributes.get_int("group", 1) > 1 else None


def _plain_gemm(node: ir.Node) -> str | None:
    if node.attributes.get_float("alpha", 1.0) != 1.0 or node.attributes.get_float("beta", 1.0) != 1.0:
        return "alpha or beta is not 1: a multiplication would stand between the product and its scales"
    return "its input is transposed (transA)" if node.attributes.get_int("transA", 0) else None


def _of_activations(node: ir.Node) -> bool:
    return len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is None


def _of_scores(node: ir.Node) -> bool:
    """Whether a product of activations makes the scores of attention: scaled and masked at most, a Softmax reads it."""
    value = node.outputs[0] if _of_activations(node) else None
    while value is not None and len(value.uses()) == 1:
        (user,) = value.consumers()
        if user.op_type == "Softmax":
            return True
        value = user.outputs[0] if user.op_type in ("Mul", "Div", "Add", "Where") else None
    return False


def _nearest(node: ir.Node) -> str | None:
    mode = node.attributes.get_string("mode", "nearest")
    return None if mode == "nearest" else f"{mode} interpolation computes between codes in float"


def _convolution_behind(value: ir.Value | None) -> ir.Node | None:
    """The convolution that makes a value, activations inside of its kernel included, where nothing else reads it."""
    readers = 1
    while value is not None and len(value.uses()) == readers and not value.is_graph_output():
        node = value.producer()
        if node is None or node.op_type in ("Conv", "ConvTranspose"):
            return node
        if is_silu(node):
            value = next(v for v in node.inputs if v is not None and not _is_sigmoid(v))
            readers = 2
        elif node.op_type in _ACTIVATIONS.split():
            value, readers = node.inputs[0], 1
        else:
            return None
    return None


def _is_sigmoid(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Sigmoid"


def is_silu(node: ir.Node) -> bool:
    """Whether a node is x * sigmoid(x)."""
    if node.op_type != "Mul":
        return False
    for value, other in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
        producer = value.producer() if value is not None else None
        if producer is not None and producer.op_type == "Sigmoid" and producer.inputs[0] is other:
            return True
    return False


def _part_of_silu(node: ir.Node) -> bool:
    return any(is_silu(user) for user in node.outputs[0].consumers())


def _by_constant(node: ir.Node) -> bool:
    return any(value is not None and value.const_value is not None for value in node.inputs)


def _merged(node: ir.Node) -> int | None:
    """Index of the input of a sum whose convolution takes the sum up into its kernel: of two the later one."""
    found = [(i, made) for i, value in enumerate(node.inputs) if (made := _convolution_behind(value))]
    if not found or node.graph is None:
        return None
    order = {n: k for k, n in enumerate(node.graph)} if len(found) > 1 else {}
    return max(found, key=lambda pair: order.get(pair[1], 0))[0]


def _skip_input(node: ir.Node) -> tuple[int, ...]:
    merged = _merged(node)
    return tuple(i for i in range(len(node.inputs)) if i != merged)


def _residual(node: ir.Node) -> str | None:
    return None if _merged(node) is not None else "no convolution takes this sum up into its kernel"


_SILU = "x * sigmoid(x) is computed in float inside of the kernel before it"

_EXTREME = "the extreme code is the extreme value; in float the plugin would compare channels before it scales them"

OPERATORS: tuple[OpRule, ...] = (
    *weighted("Conv", axis=0, bias=2, because="INT8 convolution, per-channel weights"),
    *weighted("ConvTranspose", axis=1, bias=2, when=(_in_groups,), because="INT8 deconvolution, per-channel weights"),
    *weighted("Gemm", axis=gemm_axis, bias=2, when=(_plain_gemm,), because="INT8 FullyConnected, per-channel weights"),
    OpRule("MatMul", "compute", symmetric=(0, 1), only=_of_scores, because="INT8 product of queries and keys"),
    *stays_float("MatMul", "INT8 would round probabilities or gain nothing", only=_of_activations),
    *weighted("MatMul", axis=1, when=(matrix_weight,), because="INT8 FullyConnected, per-channel weights"),
    *within("Sigmoid", only=_part_of_silu, because=_SILU),
    *within("Mul", only=is_silu, because=_SILU),
    *within("Mul", only=_by_constant, because="by a constant: in float, inside of the kernel before it"),
    *within("Add", only=_by_constant, because="of a constant: in float, inside of the kernel before it"),
    OpRule(
        "Add",
        "follow",
        _skip_input,
        when=(_residual,),
        because="a sum inside of the convolution's kernel: INT8 codes are added to its float result",
    ),
    *fuses(_ACTIVATIONS, because="inside of the kernel before it"),
    *follows("Mul", inputs=None, because="codes in"),
    *follows("GlobalAveragePool AveragePool ReduceMean", ends=True, because="codes in, a quarter of the bytes to read"),
    *shares("MaxPool", ends=True, when=(values_only,), because="the greatest code is the greatest value"),
    *shares("ReduceMax ReduceMin", ends=True, because=_EXTREME),
    *shares("Concat", inputs=None, because="one scale for all inputs: codes are copied"),
    *shares("Resize", when=(_nearest,), because="copies codes"),
    *shares(_COPIES, because="copies codes"),
    *stays_float("LSTM GRU RNN", "the plugin computes recurrent layers in float only"),
    *stays_float("Softmax LogSoftmax", "the plugin computes it in float only"),
    *stays_float("LayerNormalization InstanceNormalization GroupNormalization", "normalization needs float precision"),
)

FUSIONS = {op: tuple(_ACTIVATIONS.split()) for op in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")}

_LACKS = {"int4": "INT4 artifacts are not written for it"}
_NO_BFLOAT = {"bf16": "the board's CPU does not compute in bfloat16 (it has neither AVX512-BF16 nor AMX)"}


def contract(target: Target) -> Contract:
    """The contract of OpenVINO's CPU plugin on a board."""
    vnni, bfloat = ("vnni" in target.features, "bf16" in target.features)
    return Contract(
        runtime="openvino",
        variant="x86-vnni" if vnni else "x86",
        activation=NumberFormat("uint8", symmetric=False),
        # Without VNNI two products of u8 and s8 are added in 16 bits and saturate, unless weights keep to 7 bits.
        weight=NumberFormat("int8", symmetric=True, bits=8 if vnni else 7),
        bias="float",
        operators=OPERATORS,
        fusions=FUSIONS,
        opset=(13, 25),
        otherwise="OpenVINO has no INT8 kernel for this operator that pays",
        half="weights stored as float16, half the size, and widened when the model is loaded: computed in float32",
        bfloat="in bfloat16, as all that is float here: half the bytes, products of two at a time" if bfloat else "",
        lacks=_LACKS if bfloat else _LACKS | _NO_BFLOAT,
        inputs_only=True,
    )
