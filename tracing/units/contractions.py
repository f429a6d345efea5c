"""Contractions: calls that multiply values and sum over axes, as attention, products of matrices and einsum do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx

from tracing.graph import TracedNode

ATTENTION = "scaled_dot_product_attention"
EINSUM = "einsum"
MATRIX_PRODUCTS = ("matmul", "bmm", "__matmul__", EINSUM)


def arguments_of(node: TracedNode) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, with nodes in place of torch.fx's."""
    assert node.call is not None, "every node of a graph has its call"
    sources = {source.call: source for source in node.sources}

    def one(call: fx.Node) -> Any:
        return sources[call]

    positional, named = fx.map_arg((node.call.args, node.call.kwargs), one)
    return list(positional), dict(named)


def contraction_of(node: TracedNode) -> tuple[list[TracedNode], list[str], str] | None:
    """The values that a call multiplies and sums, and a letter for each axis of each of them and of the result."""
    given, named = arguments_of(node)
    if node.kind == EINSUM:
        equation, *operands = given
        operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
        read, arrow, made = str(equation).replace(" ", "").partition("->")
        letters = read.split(",")
        if (
            not arrow
            or "." in read
            or len(letters) != len(operands)
            or any(len(set(w)) < len(w) for w in (*letters, made))
        ):
            return None
    else:
        names = ("query", "key", "value") if node.kind == ATTENTION else ("input", "other")
        named = {("other" if name == "mat2" else name): value for name, value in named.items()}
        operands = [*given[: len(names)], *(named[name] for name in names[len(given) :] if name in named)]
        axes = 0 if node.shape is None else len(node.shape)
        if len(operands) != len(names) or axes < 3 or named.get("enable_gqa"):
            return None
        lead = "abcdefgh"[: axes - 2]
        letters = [f"{lead}{pair}" for pair in (("xy", "zy", "zw") if node.kind == ATTENTION else ("xy", "yz"))]
        made = f"{lead}{'xw' if node.kind == ATTENTION else 'xz'}"
    if not all(isinstance(each, TracedNode) for each in operands):
        return None
    return operands, letters, made


def mixes(values: Iterable[TracedNode]) -> bool:
    """Whether one of some values is made by attention, or by a product of matrices."""
    return any(each.kind in (ATTENTION, *MATRIX_PRODUCTS) for each in values)
