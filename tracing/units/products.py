"""Products of activations, as in squeeze-and-excitation and gated linear units: which units their operands hold.

    y = x * sigmoid(excite(squeeze(x)))        y = value(x) * silu(gate(x))

What scales a unit goes with it: where the unit is removed nobody reads its product, whatever the scale would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tracing.graph import Graph, TracedNode
from tracing.units.op_rules import is_product, keeps_apart, operands
from tracing.units.segments import Layout, is_units, lie_alike


@dataclass(frozen=True, eq=False)
class Product:
    """A product of two values that hold units in the same places.

    Attributes:
        layouts: of the operands; that of the one whose removed units are 0 comes first.
        between: the calls on the way to the other operand that do not keep 0.
    """

    layouts: tuple[Layout, Layout]
    between: tuple[TracedNode, ...]


def product_of_units(graph: Graph, node: TracedNode, layouts: Mapping[TracedNode, Layout]) -> Product | None:
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
    return Product((first, other), between) if not none and lie_alike(first, other) else None


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
