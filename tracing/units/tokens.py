"""Units on tokens: a Linear layer's units lie on the last axis of what it makes, and every token has each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch

from tracing import ops
from tracing.errors import Unfollowable
from tracing.graph import Graph, TracedNode
from tracing.recomputing import recomputed, tried
from tracing.units.grouping import UnitGroup, UnitGroups, Way
from tracing.units.op_rules import is_weighted
from tracing.units.positions import Reader, ends_way, shape_of

TOKENWISE = (ops.MEAN, ops.SELECT, ops.MOVE, ops.RESHAPE, ops.FLATTEN)


def token_groups(graph: Graph) -> UnitGroups:
    """The units of a graph's Linear layers on tokens, each layer a group of its own.

    Their way leads through what acts on every value alone and keeps 0, and ends at the Linear layers that read it.

    Args:
        graph: of the whole module.

    Returns:
        Every Linear layer on tokens is a group or has a reason.
    """
    found: dict[str, UnitGroup] = {}
    reasons: dict[str, str] = {}
    for name, (call, *others) in graph.calls(ops.LINEAR).items():
        if others or not call.live or call.shape is None or len(call.shape) < 3:
            continue
        try:
            found[name] = _followed(graph, name, call)
        except Unfollowable as error:
            reasons[name] = str(error)
    return UnitGroups(found, {name: name for name in found}, reasons)


def _followed(graph: Graph, name: str, call: TracedNode) -> UnitGroup:
    way = Way(graph, name, (), positions_on_tokens, ends_way_of_tokens)
    way.require_own_weight(call)
    way.require_own_bias(call)
    way.walk([call])
    if way.summed:
        raise Unfollowable(
            f"layer {name!r}: its units on tokens end in a sum with other values, or where they are laid out anew; "
            "leave this layer out of the masks"
        )
    return UnitGroup(
        name=name,
        units=shape_of(call)[-1],
        rows=(Reader(name, 1),),
        depthwise=(),
        norms=(),
        readers=tuple(dict.fromkeys(way.readers)),
        ends=tuple(way.ends),
        gate=None,
        summed=False,
        axis=-1,
    )


def positions_on_tokens(
    layer: str, source: TracedNode, node: TracedNode, lying: Reader, ties: Collection[TracedNode] = ()
) -> Iterator[Reader]:
    """`positions_after` for units on the last axis: a Linear reads them, what acts on every value alone passes them.

    Args:
        layer, source, node, lying: as for `positions_after`.
        ties: nothing ties units on tokens.

    Raises:
        Unfollowable: the call mixes units, moves them from 0, or hands them to the network's output.
    """
    if node.op is ops.OUTPUT:
        raise Unfollowable(f"layer {layer!r} reaches the model's output through {source.name!r}: nothing reads it")
    if keeps_last_axis(source, node):
        yield Reader(node.target or node.name, lying.span, lying.offset)
        return
    if ends_way_of_tokens(source, node):
        return
    trial = tried(node, len(shape_of(source)) - 1) if node.op is ops.UNKNOWN else None
    if (is_weighted(node) and node.op is ops.LINEAR) or node.op.unitwise or (trial is not None and trial.keeps_zero):
        yield Reader(node.target, lying.span, lying.offset)
    else:
        raise Unfollowable(
            f"layer {layer!r}: its units on tokens cannot be followed through {node.where}; leave this layer out of "
            "the masks"
        )


def ends_way_of_tokens(source: TracedNode, node: TracedNode) -> bool:
    """`ends_way` for units on the last axis, which what takes or averages tokens leaves as it is."""
    return ends_way(source, node) and not keeps_last_axis(source, node)


def keeps_last_axis(source: TracedNode, node: TracedNode) -> bool:
    """Whether the node takes, moves or averages tokens, and leaves the last axis as it is: found by trying it."""
    before, after = source.shape, node.shape
    if node.op not in TOKENWISE or node.live_sources != (source,) or before is None or after is None:
        return False
    numbers = torch.arange(1.0, before[-1] + 1, dtype=torch.float64)
    made = recomputed(node, numbers.expand(before).clone())
    return (
        made.ndim > 1
        and made.shape[0] == before[0]
        and made.shape[-1] == len(numbers)
        and torch.allclose(made, numbers.expand(made.shape), rtol=1e-12)
    )
