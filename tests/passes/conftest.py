from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsedge.passes import discover


@dataclass
class Result:
    model: ir.Model
    notes: list[str]

    @property
    def ops(self) -> Counter[str]:
        return Counter(node.op_type for node in self.model.graph.all_nodes())

    def names(self, op_type: str) -> list[str | None]:
        return [node.name for node in self.model.graph.all_nodes() if node.op_type == op_type]


def build(
    inputs: str, outputs: str, body: str, *, opset: int = 20, ir_version: int = 9, **arrays: np.ndarray
) -> ir.Model:
    """A model from ONNX's textual syntax, with `arrays` as initializers and every node named after its output."""
    proto = onnx.parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    for node in proto.graph.node:
        node.name = f"n_{node.output[0]}"
    return ir.from_proto(proto)


def outputs(model: onnx.ModelProto, batch: int = 2) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes on seeded inputs; dynamic axes are `batch` long."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else batch for dim in value.shape]
        draw = rng.standard_normal(shape) if value.type == "tensor(float)" else rng.integers(0, 2, shape)
        feeds[value.name] = draw.astype(value.type[7:-1].replace("float", "float32"))
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.fixture
def graph() -> Callable[..., ir.Model]:
    return build


@pytest.fixture
def check() -> Callable[..., Result]:
    """Runs one pass after shape inference; compares what the graph computes before and after."""

    def run(model: ir.Model, name: str, *, changes: bool = True, batch: int = 2, atol: float = 1e-5) -> Result:
        before = outputs(ir.to_proto(model), batch)
        discover()["infer-shapes"]()(model)
        instance = discover()[name]()
        assert instance(model).modified is changes
        after = outputs(ir.to_proto(model), batch)
        assert list(before) == list(after)
        for key in before:
            np.testing.assert_allclose(after[key], before[key], rtol=1e-4, atol=atol)
        return Result(model, instance.notes)

    return run
