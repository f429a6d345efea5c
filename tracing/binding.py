"""Argument binding: the arguments of a call under the names of its op, whatever the spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tracing.ops import RESHAPE, Op

# Names that torch gives the same parameter elsewhere.
ALIASES = {"axis": "dim", "self": "input", "size": "shape"}


def bound(op: Op, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments by the op's names, and the names of those that the op does not have."""
    if op is RESHAPE and len(positional) > 2:  # x.view(2, 3)
        positional = (positional[0], tuple(positional[1:]))
    elif op is RESHAPE and len(positional) == 2 and not isinstance(positional[1], Sequence):
        positional = (positional[0], (positional[1],))
    given = dict(zip(op.parameters, positional, strict=False))
    given |= {ALIASES.get(name, name) if name not in op.parameters else name: value for name, value in named.items()}
    surplus = sorted(set(given) - set(op.parameters))
    more = [f"argument {k + 1}" for k in range(len(op.parameters), len(positional))]
    return {name: value for name, value in given.items() if name in op.parameters}, (*surplus, *more)
