"""Positions of units on their way: where they lie on axis 1 of each value, one call after another."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tracing import ops
from tracing.errors import Unfollowable
from tracing.graph import TracedNode
from tracing.units.op_rules import is_shift, is_sum, is_weighted, joined, reads_as_image, scatters, span_after


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units: unit j is its input columns offset + j*span .. offset + (j+1)*span - 1.

    For convolutions and norms the columns are channels.
    """

    layer: str
    span: int
    offset: int = 0

    def spread(self, units: Tensor, width: int) -> Tensor:
        """A bool per unit as a bool per column of a layer of that width; False for what others feed."""
        columns = units.repeat_interleave(self.span)
        spread = torch.zeros(width, dtype=torch.bool)
        spread[self.offset : self.offset + len(columns)] = columns
        return spread


@dataclass(frozen=True, eq=False)
class End:
    """Where a way ends: the value that hands the units on, the call that takes it, and how they lie in the value."""

    source: TracedNode
    reader: TracedNode
    lying: Reader


def positions_after(
    layer: str, source: TracedNode, node: TracedNode, lying: Reader, ties: Collection[TracedNode] = ()
) -> Iterator[Reader]:
    """How `node` reads the units that lie so in `source`, once for each time it does; refuses what mixes them.

    Not at all where their way ends in a sum or in a function with weights: what emits 0 adds nothing there.

    Args:
        layer: whose units they are, for messages.
        source: the value that they lie in.
        node: a call that reads it.
        lying: where they lie.
        ties: sums and products whose operands hold the units of one group in one place, what lies before products, and
            depthwise convolutions of units: their ways go on behind them.

    Raises:
        Unfollowable: the call mixes units, moves them from 0, or hands them to the network's output.
    """
    if node.op is ops.OUTPUT:
        raise Unfollowable(f"layer {layer!r} reaches the model's output through {source.name!r}: nothing reads it")
    if node in ties:
        factor = 1 if is_sum(node) else width_of(node) // width_of(source)
        yield Reader(node.target or node.name, lying.span * factor, lying.offset * factor)
    elif ends_way(source, node):
        return
    elif is_weighted(node) and (node.op is ops.CONVOLUTION or len(shape_of(source)) == 2):
        yield Reader(node.target, lying.span, lying.offset)
    elif (parts := joined(node)) is not None:
        before = 0
        for part in parts:
            if part is source:
                yield Reader(node.target, lying.span, lying.offset + before)
            before += (shape_of(part) if isinstance(part, TracedNode) else part.shape)[1]
    elif (factor_of := span_after(source, node)) is not None:
        yield Reader(node.target, lying.span * factor_of, lying.offset * factor_of)
    else:
        raise Unfollowable(
            f"layer {layer!r}: its units cannot be followed through {node.where}; leave this layer out of the masks"
        )


def ends_way(source: TracedNode, node: TracedNode) -> bool:
    """Whether the units' way from `source` ends at a call that is no layer whose columns can be cut.

    Such are a sum, a function with weights, a transposed convolution, and whatever does not leave units side by side:
    a shuffle, a slice, a mean over channels. What is removed hands on 0 there, in its own place; so it does where a
    constant is added, which stays.
    """
    if is_sum(node) or reads_as_image(node, source):
        return True
    return scatters(source, node) or is_shift(source, node)


def shape_of(node: TracedNode) -> tuple[int, ...]:
    """The shape of a value, with the batch; raises Unfollowable where it is not one tensor."""
    if node.shape is None:
        raise Unfollowable(f"operation {node.name!r} returns more than one tensor: its units cannot be followed")
    return node.shape


def width_of(node: TracedNode) -> int:
    """The entries of axis 1 of a value; raises Unfollowable where it has none."""
    shape = shape_of(node)
    if len(shape) < 2:
        raise Unfollowable(f"operation {node.name!r} returns shape {shape}: it has no axis of units")
    return shape[1]
