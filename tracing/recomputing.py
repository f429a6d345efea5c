"""Recomputing: what one call of a traced graph makes of another value, which shows how it moves or changes values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from tracing.errors import REFUSALS
from tracing.graph import TracedNode
from tracing.ops import UNKNOWN

CLOSE = 1e-9
TRIED = "behaviour by axis"  # where a call keeps what trying it has shown


@dataclass(frozen=True)
class CallBehaviour:
    """What a call does to the entries of an axis, each of which it takes alone: found by trying it.

    Attributes:
        bends: it is no affine function of them.
        keeps_zero: 0 becomes 0.
    """

    bends: bool
    keeps_zero: bool


def tried(
    node: TracedNode, axis: int, kind: torch.dtype = torch.float64, *, reshapes: bool = False
) -> CallBehaviour | None:
    """Whether a call of one value takes every entry of an axis alone, and makes a value of the same shape.

    Random numbers are changed in the entries whose number has a bit set, bit by bit, so that every two entries are told
    apart: the results of the rest must stay as they are, to the last bit.

    Args:
        node: a call of a layer, a function or a method that reads one value that depends on the images.
        axis: of that value, which is shaped as on the example.
        kind: of the numbers.
        reshapes: whether other axes than this one and that of the images may change, as by a norm over the pixels.

    Returns:
        What it does; None where it mixes entries, changes the shape, or does not take such numbers.
    """
    if len(node.live_sources) != 1 or node.live_sources[0].shape is None or node.call is None:
        return None
    known: dict[tuple[int, torch.dtype, bool], CallBehaviour | None] = node.call.meta.setdefault(TRIED, {})
    if (axis, kind, reshapes) not in known:
        known[axis, kind, reshapes] = _tried(node, axis, kind, {}, reshapes=reshapes)
    return known[axis, kind, reshapes]


def tried_together(
    node: TracedNode, axis: int, nothing: Mapping[TracedNode, Tensor] = MappingProxyType({})
) -> CallBehaviour | None:
    """Whether a call of several values takes each entry of an axis of all of them alone, as `tried` of one value.

    Args:
        node: a call that reads values of one shape, and makes a value of that shape.
        axis: of these values.
        nothing: by live source, what stands for 0 there, of which the call has to make 0 to keep it.
    """
    sources = node.live_sources
    if node.call is None or node.shape is None or any(each.shape != node.shape for each in sources):
        return None
    try:
        zeros = {source: nothing_of(source, nothing) for source in sources}
    except REFUSALS:
        return None
    return _tried(node, axis, torch.float64, zeros)


def nothing_of(node: TracedNode, nothing: Mapping[TracedNode, Tensor] = MappingProxyType({})) -> Tensor:
    """What stands for 0 in the place of a value: as given, else zeros of its type, which a comparison makes bool."""
    if node in nothing:
        return nothing[node]
    assert node.shape is not None, "only tensors are tried"
    sources = node.live_sources
    if node.op is UNKNOWN and len(sources) == 1 and sources[0].shape is not None:
        return torch.zeros_like(recomputed(node, torch.zeros(sources[0].shape, dtype=torch.float64)))
    return torch.zeros(node.shape, dtype=torch.float64)


def _tried(
    node: TracedNode, axis: int, kind: torch.dtype, zeros: Mapping[TracedNode, Tensor], *, reshapes: bool = False
) -> CallBehaviour | None:
    sources = dict.fromkeys(node.live_sources)
    shape = node.live_sources[0].shape
    assert shape is not None, "only tensors are tried"
    draw = torch.Generator().manual_seed(0)

    def drawn(source: TracedNode) -> Tensor:
        made = torch.randn(shape, dtype=torch.float64, generator=draw)
        found = zeros.get(source)
        return made > 0 if found is not None and found.dtype == torch.bool else made.to(kind)

    one, other = ({source: drawn(source) for source in sources} for _ in range(2))
    entries = torch.arange(shape[axis])
    halves = [(entries >> bit) % 2 == 0 for bit in range(max(1, (shape[axis] - 1).bit_length()))]
    values = [
        one,
        other,
        {source: one[source] + other[source] for source in sources},
        {source: zeros.get(source, torch.zeros_like(one[source])) for source in sources},
        *(
            {each: torch.where(_along(axis, shape, half), other[each], one[each]) for each in sources}
            for half in halves
        ),
    ]
    try:
        made = [recomputed(node, {source: each.clone() for source, each in value.items()}) for value in values]
    except REFUSALS:
        return None
    first, second, total, nothing, *found = made
    if not all(isinstance(each, Tensor) and each.shape == first.shape for each in made):
        return None
    after = tuple(first.shape)
    if after != shape and not (reshapes and _keeps_axes(shape, after, axis)):
        return None
    for half, values_of in zip(halves, found, strict=True):
        expected = torch.where(_along(axis, after, half), second, first)
        known = ~expected.isnan()  # a logarithm takes half of what is drawn
        if not bool(known.any()) or not bool(((values_of == expected) | (values_of.isnan() & ~known)).all()):
            return None
    close = CLOSE if kind == torch.float64 else torch.finfo(kind).eps ** 0.5
    affine = torch.allclose(total + nothing, first + second, rtol=close, atol=close, equal_nan=True)
    return CallBehaviour(not affine, not bool(nothing.any()))


def _along(axis: int, shape: Sequence[int], entries: Tensor) -> Tensor:
    """The entries of an axis, shaped to go with a value."""
    return entries.reshape([-1 if d == axis else 1 for d in range(len(shape))])


def _keeps_axes(before: Sequence[int], after: Sequence[int], axis: int) -> bool:
    """Whether the axis and that of the images are where they were, and as long."""
    return len(after) > axis and all(before[d] == after[d] for d in (0, axis))


def number_type(node: TracedNode) -> torch.dtype:
    """The floating type that a call takes: that of its weights and constants, float64 where it has none."""
    held = [] if node.layer is None else [*node.layer.parameters(), *node.layer.buffers()]
    given = [source.value for source in node.sources if not source.live and isinstance(source.value, Tensor)]
    return next((each.dtype for each in (*held, *given) if each.is_floating_point()), torch.float64)


def recomputed(node: TracedNode, value: Any) -> Any:
    """What the call makes of a value in the place of its sources that depend on the images; constants as they were.

    Args:
        node: a call of a layer, a function or a method.
        value: in place of each live source; a mapping from these has one for each.

    Returns:
        Whatever the call returns: mostly a tensor.
    """
    call = node.call
    assert call is not None, "only nodes of a traced graph are recomputed"
    sources = {source.call: source for source in node.sources}

    def one(read: fx.Node) -> Any:
        source = sources[read]
        if not source.live:
            return source.value
        return value[source] if isinstance(value, Mapping) else value

    positional, named = fx.map_arg(call.args, one), fx.map_arg(call.kwargs, one)
    with torch.no_grad():
        if node.layer is not None:
            return node.layer(*positional, **named)
        if isinstance(call.target, str):  # a method's name
            return getattr(positional[0], call.target)(*positional[1:], **named)
        return call.target(*positional, **named)
