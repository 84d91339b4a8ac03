"""Transposes that undo each other, across operators that do not mind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import array, bypass, constant, fresh, ints, is_constant, label, nodes, value_names
from dsedge.passes.match import remove_unread

Perm = tuple[int, ...]

_ELEMENTWISE = frozenset(
    "Relu LeakyRelu Sigmoid Tanh Clip HardSwish HardSigmoid Gelu Mish Elu Selu Celu Softplus Softsign Exp Log Sqrt Abs "
    "Neg Erf Reciprocal Cast Identity Floor Ceil Round Sign Add Sub Mul Div Pow Max Min Sum Mean PRelu Where".split()
)
_REDUCTIONS = frozenset("ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2".split())
_AXIS = {"Concat": 0, "Softmax": -1, "LogSoftmax": -1}  # with the default of the attribute


class CancelTransposes(Pass):
    """Removes transpositions that undo each other, also where elementwise operators stand between.

    What:
        Two Transposes in a row become one or none. Operators that do their work in any order of axes (elementwise,
        Concat, Softmax, Pad, reductions) and read nothing but transposed values and constants read the values as they
        were before; their axes and constants are permuted, and transpositions behind them cancel. A reduction that
        drops the moved axes reads the value before the Transpose.
    Why:
        TensorFlow keeps channels last, and its converters put a Transpose before and behind every convolution. With
        them between, no activation, bias or normalization can be folded into the convolution, and every feature map
        is copied twice.
    When not:
        The graph would not have fewer Transposes afterwards: some that lead out of such a region have to be made anew.
        Orders of axes and constants are not known. Subgraphs.
    Cost:
        Linear in nodes for each different order of axes, for as often as that helps. Copies of permuted constants.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Cancels until nothing more does."""
        graph, taken, modified = model.graph, value_names(model), False
        while any([_merge(node, taken) for node in nodes(model)]) or _move_one(graph, taken):
            modified = True
        return ir.passes.PassResult(model, modified)


def _perm(node: ir.Node | None) -> Perm | None:
    if node is None or node.domain != "" or node.op_type != "Transpose" or node.inputs[0] is None:
        return None
    shape = dims(node.inputs[0])
    perm = node.attributes.get_ints("perm")
    if perm is None and shape is not None:
        perm = list(range(len(shape)))[::-1]
    return None if perm is None else tuple(perm)


def _merge(node: ir.Node, taken: set[str]) -> bool:
    """Lets a Transpose, or a reduction that drops axes, read what the Transpose before it reads."""
    before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    first = _perm(before)
    if before is None or first is None:
        return False
    second = _perm(node)
    if second is not None and len(second) == len(first):
        both = [first[axis] for axis in second]
        if both == sorted(both) and before.inputs[0] is not None:
            done = bypass(node, before.inputs[0])
        else:
            node.replace_input_with(0, before.inputs[0])
            node.attributes.add(ir.AttrInt64s("perm", both))
            done = True
    else:
        done = _reduces_before(node, first, taken)
        if done:
            node.replace_input_with(0, before.inputs[0])
    remove_unread(before)
    return done


def _reduces_before(node: ir.Node, perm: Perm, taken: set[str]) -> bool:
    """Permutes the axes of a reduction that drops them, if those that are left keep their order."""
    axes = ints(node.inputs[1]) if node.op_type in _REDUCTIONS and len(node.inputs) > 1 else None
    if not axes or node.attributes.get_int("keepdims", 1) != 0 or node.graph is None:
        return False
    dropped = [perm[axis] for axis in axes]
    left = [axis for axis in perm if axis not in dropped]
    if left != sorted(left):
        return False
    name = f"{label(node)}.axes"
    node.replace_input_with(1, constant(node.graph, name, np.array(sorted(dropped), np.int64), taken))
    return True


def _move_one(graph: ir.Graph, taken: set[str]) -> bool:
    """Moves the Transposes before one region to behind it, where that leaves fewer."""
    perms = dict.fromkeys(perm for node in graph if (perm := _perm(node)) is not None and list(perm) != sorted(perm))
    for perm in perms:
        for region in _regions(graph, perm):
            if _gain(region, perm) > 0:
                _move(region, perm, taken)
                return True
    return False


def _regions(graph: ir.Graph, perm: Perm) -> Iterator[list[ir.Node]]:
    """Connected groups of nodes in order that read only constants, values transposed by `perm`, and each other."""
    ready: dict[ir.Value, set[ir.Node]] = {node.outputs[0]: set() for node in graph if _perm(node) == perm}
    members: list[ir.Node] = []
    for node in graph:
        sources = [v for v in node.inputs if v is not None and not is_constant(v)]
        if sources and all(v in ready for v in sources) and _permuter(node, perm) is not None:
            members.append(node)
            ready[node.outputs[0]] = {node}
            for value in sources:
                ready[value].add(node)
    while members:
        region, front = set(), [members[0]]
        while front:
            node = front.pop()
            region.add(node)
            near = [ready[v] for v in (*node.inputs, *node.outputs) if v in ready]
            front += {other for nodes_at in near for other in nodes_at} - region
        yield [node for node in members if node in region]
        members = [node for node in members if node not in region]


def _gain(region: list[ir.Node], perm: Perm) -> int:
    """How many Transposes fewer there are when a region reads its inputs untransposed."""
    inside = set(region)
    before = dict.fromkeys(v for node in region for v in node.inputs if v is not None and v.producer() not in inside)
    gain = sum(
        all(use.node in inside for use in v.uses()) and not v.is_graph_output() for v in before if not is_constant(v)
    )
    inverse = tuple(int(axis) for axis in np.argsort(perm))
    for output in (node.outputs[0] for node in region):
        users = [use.node for use in output.uses() if use.node not in inside]
        gain += sum(_perm(user) == inverse for user in users)
        gain -= output.is_graph_output() or any(_perm(user) is None for user in users)
    return gain


def _move(region: list[ir.Node], perm: Perm, taken: set[str]) -> None:
    inside = set(region)
    makers: list[ir.Node] = []
    for node in region:
        permute = _permuter(node, perm)
        assert permute is not None and node.graph is not None
        permute(taken)
        for index, value in enumerate(node.inputs):
            maker = value.producer() if value is not None else None
            if maker is not None and maker not in inside:
                makers.append(maker)
                node.replace_input_with(index, maker.inputs[0])
    for node in region:
        _transpose_behind(node, inside, perm, taken)
    remove_unread(*makers)


def _transpose_behind(node: ir.Node, inside: set[ir.Node], perm: Perm, taken: set[str]) -> None:
    """Gives those outside that read an output the transposed value. Transposes among them are merged with that."""
    output, graph = node.outputs[0], node.graph
    assert graph is not None
    if output.shape is not None:
        output.shape = ir.Shape([output.shape[perm.index(axis)] for axis in range(len(perm))])
    uses = [use for use in output.uses() if use.node not in inside]
    if not uses and not output.is_graph_output():
        return
    name, named = output.name, output.is_graph_output()
    if named:
        output.name = fresh(f"{name}_untransposed", taken)
    shape = None if output.shape is None else ir.Shape([output.shape[axis] for axis in perm])
    moved = ir.Value(name=name if named else fresh(f"{name}_transposed", taken), shape=shape, type=output.type)
    graph.insert_after(
        node,
        new := ir.node("Transpose", [output], {"perm": list(perm)}, outputs=[moved], name=f"{label(node)}_transpose"),
    )
    for user, index in uses:
        user.replace_input_with(index, moved)
    for index, value in enumerate(graph.outputs):
        if value is output:
            graph.outputs[index] = moved
    for user in dict.fromkeys(use.node for use in uses):
        if _perm(user) is not None:
            _merge(user, taken)
    remove_unread(new)


def _permuter(node: ir.Node, perm: Perm) -> Callable[[set[str]], None] | None:
    """What makes a node compute on untransposed inputs; None for a node whose work depends on the order of axes."""
    shape = dims(node.outputs[0])
    if node.domain != "" or len(node.outputs) != 1 or shape is None or len(shape) != len(perm):
        return None
    rank = len(perm)
    if node.op_type in _ELEMENTWISE:
        return lambda taken: _permute_constants(node, perm, taken)
    if node.op_type in _AXIS:
        axis = node.attributes.get_int("axis", _AXIS[node.op_type])

        def with_axis(taken: set[str]) -> None:
            _permute_constants(node, perm, taken)
            node.attributes.add(ir.AttrInt64("axis", perm[axis]))

        return with_axis
    if node.op_type in _REDUCTIONS or node.op_type == "Pad":
        numbers = ints(node.inputs[1]) if len(node.inputs) > 1 else None
        if not numbers or (node.op_type == "Pad" and len(node.inputs) > 3):
            return None
        if node.op_type == "Pad":
            order = np.argsort(perm)
            new = [*np.array(numbers[:rank])[order], *np.array(numbers[rank:])[order]]
        else:
            new = [perm[axis] for axis in numbers]
        return lambda taken: _set_numbers(node, new, taken)
    return None


def _set_numbers(node: ir.Node, numbers: list[int], taken: set[str]) -> None:
    assert node.graph is not None and node.inputs[1] is not None
    node.replace_input_with(1, constant(node.graph, f"{node.inputs[1].name}_moved", np.array(numbers, np.int64), taken))


def _permute_constants(node: ir.Node, perm: Perm, taken: set[str]) -> None:
    for index, value in enumerate(node.inputs):
        if not is_constant(value) or array(value).size == 1:
            continue
        data = array(value)
        data = data.reshape((1,) * (len(perm) - data.ndim) + data.shape).transpose(np.argsort(perm))
        assert node.graph is not None
        moved = constant(node.graph, f"{value.name}_moved", np.ascontiguousarray(data), taken)
        node.replace_input_with(index, moved)
