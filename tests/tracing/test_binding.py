"""Arguments of calls under the names of their op."""

from __future__ import annotations

from typing import Any

import pytest

from tracing import ops
from tracing.binding import bound


@pytest.mark.parametrize(
    ("op", "positional", "named", "given", "surplus"),
    [
        (ops.RESHAPE, ("x", 2, 3), {}, {"input": "x", "shape": (2, 3)}, ()),
        (ops.RESHAPE, ("x", (2, 3)), {}, {"input": "x", "shape": (2, 3)}, ()),
        (ops.RESHAPE, ("x", -1), {}, {"input": "x", "shape": (-1,)}, ()),
        (ops.RESHAPE, ("x",), {"size": (2,)}, {"input": "x", "shape": (2,)}, ()),
        (ops.CONCATENATE, (["x"],), {"axis": 1}, {"tensors": ["x"], "dim": 1}, ()),
        (ops.MEAN, ("x",), {"dtype": 1}, {"input": "x"}, ("dtype",)),
        (ops.FLATTEN, ("x", 1, -1, "more"), {}, {"input": "x", "start_dim": 1, "end_dim": -1}, ("argument 4",)),
        (ops.UNKNOWN, ("x", 1), {}, {}, ("argument 1", "argument 2")),
    ],
)
def test_arguments_are_bound_by_name(
    op: ops.Op, positional: tuple[Any, ...], named: dict[str, Any], given: dict[str, Any], surplus: tuple[str, ...]
) -> None:
    assert bound(op, positional, named) == (given, surplus)
