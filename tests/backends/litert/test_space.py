"""DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import pytest

from tests.backends.litert.harness import check_float, check_int8, node


@pytest.mark.parametrize(
    ("op", "shape", "block", "mode", "written"),
    [
        ("DepthToSpace", (2, 12, 4, 5), 2, "DCR", ["TRANSPOSE", "DEPTH_TO_SPACE", "TRANSPOSE"]),
        ("DepthToSpace", (2, 12, 4, 5), 2, "CRD", ["TRANSPOSE", "RESHAPE", "TRANSPOSE", "RESHAPE", "TRANSPOSE"]),
        ("DepthToSpace", (1, 18, 2, 3), 3, "CRD", ["TRANSPOSE", "RESHAPE", "TRANSPOSE", "RESHAPE", "TRANSPOSE"]),
        ("DepthToSpace", (1, 9, 2, 3), 3, "CRD", ["TRANSPOSE", "DEPTH_TO_SPACE", "RESHAPE"]),
        ("SpaceToDepth", (2, 3, 4, 6), 2, None, ["TRANSPOSE", "SPACE_TO_DEPTH", "TRANSPOSE"]),
    ],
)
def test_space(op: str, shape: tuple[int, ...], block: int, mode: str | None, written: list[str]) -> None:
    """Numbers move, and none changes."""
    attributes = {"blocksize": block} | ({} if mode is None else {"mode": mode})
    model = node(op, [shape], **attributes)
    assert check_float(model, tolerance=0).ops == written
    check_int8(model, same=True, steps=0)
