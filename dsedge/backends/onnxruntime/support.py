"""Support: which nodes ONNX Runtime's CPU provider has no kernel for, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dsedge.backends.base import Finding


def unsupported(model: ir.Model) -> list[Finding]:
    """Every node without a kernel, in the graph, in bodies of control flow and in functions.

    The runtime's own kernel registry is asked first, because a session names only the first node that it cannot place.
    A session over the whole model then has the last word on types and shapes.
    """
    findings = [found for node in _all_nodes(model) if (found := _missing_kernel(node, model))]
    return findings or _refused_by_session(model)


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _missing_kernel(node: ir.Node, model: ir.Model) -> Finding | None:
    import onnx.defs

    from onnxruntime.capi import onnxruntime_pybind11_state as registry

    op, domain = node.op_type, node.domain if node.domain != "ai.onnx" else ""
    local = any(f.domain == node.domain and f.name == op for f in model.functions.values())
    if local or op == "Constant":  # a constant becomes an initializer, it needs no kernel
        return None
    shown = f"{domain}.{op}" if domain else op
    opset = node.version or model.opset_imports.get(domain, model.opset_imports.get("ai.onnx", 1))
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        # The runtime has operators of its own that onnx knows nothing about.
        if domain and any(k.op_name == op and k.domain == domain for k in registry.get_all_opkernel_def()):
            return None
        return Finding(node.name or "", shown, f"no such operator in domain {domain or 'ai.onnx'!r} at opset {opset}")
    if schema.has_function or schema.has_context_dependent_function:  # type: ignore[attr-defined]
        return None
    kernels = [k.version_range for k in registry.get_all_opkernel_def() if k.op_name == op and k.domain == domain]
    if any(first <= schema.since_version <= last for first, last in kernels):
        return None
    because = f"no CPU kernel at opset {opset}" if kernels else "no CPU kernel"
    return Finding(node.name or "", shown, because)


def _refused_by_session(model: ir.Model) -> list[Finding]:
    from dsedge.errors import VerifyError
    from dsedge.session import open_session

    try:
        open_session(model, optimize=False, threads=1)
    except VerifyError as error:
        return [Finding("", "", error.because or error.what)]
    return []
