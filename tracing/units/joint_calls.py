"""Products of activations, and other calls of several values that hold units in the same places.

    y = x * sigmoid(excite(squeeze(x)))        y = value(x) * silu(gate(x))        y = where(x > 0, x, a x)

What scales a unit goes with it: where the unit is removed nobody reads its product, whatever the scale would be. Other
calls are tried: they have to take each entry alone, and to make 0 of what is read where a unit is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tracing import ops
from tracing.errors import REFUSALS
from tracing.graph import Graph, TracedNode
from tracing.recomputing import nothing_of, recomputed, tried_together
from tracing.units.op_rules import is_product, keeps_apart, operands
from tracing.units.segments import Layout, is_units, lie_alike


@dataclass(frozen=True, eq=False)
class Joint:
    """A call of several values that hold units in the same places.

    Attributes:
        layouts: of the values; of a product, that of the one whose removed units are 0 comes first.
        between: the calls on the way to these values that do not keep 0.
    """

    layouts: tuple[Layout, ...]
    between: tuple[TracedNode, ...]


def product_of_units(graph: Graph, node: TracedNode, layouts: Mapping[TracedNode, Layout]) -> Joint | None:
    """What a call multiplies, None where it is no product of units with units.

    Args:
        graph: of the whole module.
        node: the call.
        layouts: of all values before it.
    """
    if not node.live or not is_product(node):
        return None
    found = [_traced_back(graph, operand, layouts) for operand in operands(node)]
    known = sorted((each for each in found if each is not None), key=lambda each: len(each[1]))
    if len(known) != 2:
        return None
    (first, none), (other, between) = known
    return Joint((first, other), between) if not none and lie_alike(first, other) else None


def combined_units(graph: Graph, node: TracedNode, layouts: Mapping[TracedNode, Layout]) -> Joint | None:
    """What a call that the op table does not know takes entry by entry of several values; None where it mixes units.

    Args:
        graph, node, layouts: as for `product_of_units`.
    """
    sources = tuple(dict.fromkeys(node.live_sources))
    if not node.live or node.op is not ops.UNKNOWN or len(sources) < 2:
        return None
    found = [_traced_back(graph, source, layouts) for source in sources]
    known = [each for each in found if each is not None]
    if len(known) != len(sources) or not all(lie_alike(known[0][0], each) for each, _ in known):
        return None
    try:
        gone = {
            source: _where_gone(source, between) for source, (_, between) in zip(sources, known, strict=True) if between
        }
    except REFUSALS:
        return None  # a call between does not take float64
    trial = tried_together(node, 1, gone)
    if trial is None or not trial.keeps_zero:
        return None
    return Joint(tuple(each for each, _ in known), tuple(call for _, between in known for call in between))


def _where_gone(value: TracedNode, between: Sequence[TracedNode]) -> Tensor:
    """What the calls between make of 0, the last one first, up to the value."""
    (source,) = between[-1].live_sources
    made = nothing_of(source)
    for call in reversed(between):
        made = recomputed(call, made)
    return made


def _traced_back(
    graph: Graph, value: TracedNode, layouts: Mapping[TracedNode, Layout]
) -> tuple[Layout, tuple[TracedNode, ...]] | None:
    """The units that a value holds, and the calls that it has passed since they were 0 where removed."""
    between: list[TracedNode] = []
    while not is_units(layouts[value]):
        if not value.live or len(value.live_sources) != 1 or len(graph.users[value]) != 1:
            return None
        (source,) = value.live_sources
        if not keeps_apart(source, value):
            return None
        between.append(value)
        value = source
    return layouts[value], tuple(between)
