"""Image counts: records of a forward, each of another number of images, become one of any number."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

DEPEND = "its calls depend on the number of images"
CONSTANT = "_tensor_constant"  # torch.fx keeps a tensor that a forward makes by itself under such a name


def for_any_number(records: Mapping[int, fx.GraphModule]) -> fx.GraphModule:
    """The first of some records, each of so many images, with what differs made a multiple of their number.

    Args:
        records: by their number of images; the first is changed.

    Raises:
        TypeError: they differ otherwise; the message says how.
    """
    first, *_ = records.values()
    nodes = [list(each.graph.nodes) for each in records.values()]
    if len({tuple((node.op, node.target) for node in each) for each in nodes}) > 1:
        raise TypeError(DEPEND)
    batch = _Batch(first.graph, nodes[0][0], tuple(records))
    for alike in zip(*nodes, strict=True):
        node = alike[0]
        node.args, node.kwargs = (batch.either([getattr(each, what) for each in alike]) for what in ("args", "kwargs"))
    for node in nodes[0]:
        if node.op == "get_attr" and str(node.target).startswith(CONSTANT):
            batch.constant(node, [getattr(each, str(node.target)) for each in records.values()])
    first.graph.lint()
    first.recompile()
    return first


class _Batch:
    """The number of images in a graph, asked of them where something needs it."""

    def __init__(self, graph: fx.Graph, images: fx.Node, counts: tuple[int, ...]) -> None:
        self.graph, self.images, self.counts, self.multiples = graph, images, counts, dict[int, fx.Node]()

    def either(self, given: Sequence[Any]) -> Any:
        """An argument of all records."""
        one = given[0]
        alike = all(type(each) is type(one) for each in given)
        if isinstance(one, fx.Node):
            if not alike or len({each.name for each in given}) > 1:
                raise TypeError(DEPEND)
            return one
        if alike and isinstance(one, tuple | list) and len({len(each) for each in given}) == 1:
            return type(one)([self.either(each) for each in zip(*given, strict=True)])
        if alike and isinstance(one, dict) and all(list(each) == list(one) for each in given):
            return {key: self.either([each[key] for each in given]) for key in one}
        if alike and isinstance(one, slice):
            return slice(*(self.either([getattr(each, end) for each in given]) for end in ("start", "stop", "step")))
        if alike and all(each == one for each in given):
            return one
        if alike and type(one) is int:
            factor = one // self.counts[0]
            if list(given) == [factor * count for count in self.counts]:
                return self._times(factor)
        raise TypeError(
            f"it uses {', '.join(f'{n} for {count}' for n, count in zip(given, self.counts, strict=True))} images"
        )

    def constant(self, node: fx.Node, given: Sequence[Tensor]) -> None:
        """A tensor that the forward makes by itself: the same in all records, or one row for each image."""
        one = given[0]
        if all(one.shape == each.shape and torch.equal(one, each) for each in given):
            return
        lengths = tuple(each.shape[0] if each.ndim else 0 for each in given)
        row = one[:1]
        alike = lengths == self.counts and all(torch.equal(each, row.expand_as(each)) for each in given)
        if not alike:
            raise TypeError("it makes a tensor of its own that depends on the number of images")
        images = self._times(1)
        setattr(self.graph.owning_module, str(node.target), row.clone())
        with self.graph.inserting_after(node):
            spread = self.graph.call_method("expand", (node, images, *[-1] * (one.ndim - 1)))
        node.replace_all_uses_with(spread, delete_user_cb=lambda user: user is not spread)

    def _times(self, factor: int) -> fx.Node:
        if 1 not in self.multiples:
            with self.graph.inserting_after(self.images):
                self.multiples[1] = self.graph.call_method("size", (self.images, 0))
        if factor not in self.multiples:
            with self.graph.inserting_after(self.multiples[1]):
                self.multiples[factor] = self.graph.call_function(operator.mul, (self.multiples[1], factor))
        return self.multiples[factor]
