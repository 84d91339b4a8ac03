"""TensorRT's contract: Q/DQ on the inputs of what its INT8 kernels compute, symmetric, and nowhere else.

TensorRT moves quantizers over what only moves or compares values, and fuses the float operators behind a convolution
into its kernel, which then writes codes where codes are read. A quantizer that stands elsewhere cuts such a kernel in
two; only a pyramid of pools gains by it. Which operators pay, by what lies around them, is in `structure.py`;
`tools/compare_modelopt.py` compares the placement with NVIDIA's own.
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.backends.tensorrt.capability import capability, missing
from dsedge.backends.tensorrt.structure import (
    few_channels,
    fused_sum,
    in_blocks,
    in_pyramid,
    skip_input,
    small_product,
)
from dsedge.quant.conditions import gemm_axis, matrix_weight
from dsedge.quant.contract import Contract, NumberFormat, OpRule, dynamic, fuses, stays_float, weighted
from dsedge.target import Target

_ACTIVATIONS = "Relu Clip LeakyRelu PRelu Elu Selu HardSwish HardSigmoid Sigmoid Tanh Mish Softplus"
_COPIES = (
    "Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Concat Pad Resize Tile Expand DepthToSpace "
    "SpaceToDepth Identity"
)
_NORMALIZATIONS = (
    "LayerNormalization InstanceNormalization GroupNormalization RMSNormalization BatchNormalization LpNormalization "
    "LRN"
)

_PRODUCT = "INT8 matrix product, per-channel weights"
_MOVES = "moves values: quantizers behind it are moved over it, one of its own would be computed"
_PYRAMID = "of a pyramid of pools: computed once, on codes of one scale, for all that read or join them"
_POINTWISE = "computed in float inside of the kernel around it, which writes codes where INT8 reads them"


def _of_activations(node: ir.Node) -> bool:
    return len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is None


def _carries(ops: str, because: str) -> tuple[OpRule, ...]:
    """Float operators over which INT8 reaches what lies behind them."""
    return tuple(OpRule(op, "within", because=because) for op in ops.split())


OPERATORS: tuple[OpRule, ...] = (
    *weighted("Conv", axis=0, bias=2, when=(few_channels,), because="INT8 convolution, per-channel weights"),
    *stays_float("ConvTranspose", "the compiler widens its codes and computes the deconvolution in float"),
    *weighted("Gemm", axis=gemm_axis, bias=2, when=(small_product,), because=_PRODUCT),
    *stays_float("MatMul", "a product of activations (attention) keeps its precision in float", only=_of_activations),
    *weighted("MatMul", axis=1, when=(matrix_weight, small_product), because=_PRODUCT),
    OpRule(
        "Add",
        "follow",
        skip_input,
        ends=True,
        when=(fused_sum,),
        because="a sum inside of the convolution's kernel, which reads the skip input as codes",
    ),
    *fuses(_ACTIVATIONS, because="inside of the kernel before it"),
    OpRule("Concat", "share", only=in_pyramid, because=_PYRAMID),
    OpRule("MaxPool", "share", (0,), only=in_pyramid, because=_PYRAMID),
    *_carries(_COPIES, _MOVES),
    *_carries(
        "MaxPool GlobalMaxPool", "the greatest code is the greatest value: quantizers behind it are moved over it"
    ),
    *_carries("Mul Sub Div AveragePool GlobalAveragePool", _POINTWISE),
    *stays_float("Gelu", "its chain is one float kernel, and codes behind it are written by that"),
    *stays_float("Softmax LogSoftmax", "probabilities need float precision"),
    *stays_float(_NORMALIZATIONS, "normalization needs float precision"),
    *stays_float("LSTM GRU RNN", "TensorRT has no INT8 kernel for recurrences"),
)

FUSIONS = {op: tuple(_ACTIVATIONS.split()) for op in ("Conv", "Gemm", "MatMul", "Add")}

BLOCK = NumberFormat("uint4", symmetric=True, bits=4, block=64)
"""Written to the file as signed codes (`graphs.py`). One size that divides the widths of transformers in use."""

_BLOCKS = "INT4 weights in blocks of 64, widened to float16 inside of the kernel"

BLOCKED: tuple[OpRule, ...] = (
    *dynamic("MatMul", weights=(1,), axis=0, when=(matrix_weight, in_blocks), because=_BLOCKS),
    *dynamic("Gemm", weights=(1,), axis=lambda node: 1 - gemm_axis(node), when=(in_blocks,), because=_BLOCKS),
)


def contract(target: Target) -> Contract:
    """The contract of TensorRT on a board's GPU.

    Raises:
        LoadError: DS144 when the board has no NVIDIA GPU, or one that is not known.
    """
    chip = capability(target)
    return Contract(
        runtime="tensorrt",
        variant=f"sm{chip.number.replace('.', '')}",
        activation=NumberFormat("int8", symmetric=True),
        weight=NumberFormat("int8", symmetric=True),
        bias="float",
        operators=OPERATORS,
        fusions=FUSIONS,
        opset=(13, 20),
        otherwise="TensorRT has no INT8 kernel for this operator",
        half="computed in float16 on tensor cores",
        computes_half=True,
        bfloat="computed in bfloat16 on tensor cores" if chip.ampere else "",
        block=BLOCK if chip.ampere else None,
        blocked=BLOCKED if chip.ampere else (),
        lacks=missing(chip),
        static=True,
        ranges=True,
        inputs_only=True,
    )
