"""Layouts of values: whose units lie on axis 1 of each value, and which sums and convolutions tie them together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tracing import ops
from tracing.graph import Graph, TracedNode
from tracing.units.joint_calls import Joint, combined_units, product_of_units
from tracing.units.op_rules import is_depthwise, is_sum, is_weighted, joined, operands, span_after
from tracing.units.segments import NOBODY, Layout, Segment, is_units, lie_alike, widened


@dataclass(frozen=True, eq=False)
class Ties:
    """What ties units together.

    Attributes:
        layers: of each sum, product and depthwise convolution that ties units, and of what lies before a product, those
            layers whose units it ties or carries on.
        groups: the layers of each group, in the order of their calls; a layer that nothing ties is a group of its own.
    """

    layers: Mapping[TracedNode, frozenset[str]]
    groups: tuple[tuple[str, ...], ...]


def find_ties(graph: Graph, untied: Collection[TracedNode] = ()) -> Ties:
    """The groups of a graph's layers by their units.

    A sum of two values of one layout ties the layers that lie in one place of both: unit j of the one and unit j of
    the other are kept or removed together. A depthwise convolution makes no units of its own: it carries those that
    it reads, as a BatchNorm does. A product ties as a sum does, also where one operand repeats along the pixels
    (squeeze-and-excitation, gated linear units); what that operand becomes on its way there need not keep 0. So does
    any other call that takes each entry of several values alone and makes 0 where units are gone. Entries
    that are no units (the images, what mixes units) tie nothing.

    Args:
        graph: of the whole module.
        untied: sums, products and depthwise convolutions that are taken to tie nothing.
    """
    calls = graph.calls(ops.LINEAR, ops.CONVOLUTION)
    layouts: dict[TracedNode, Layout] = {}
    ties: dict[TracedNode, frozenset[str]] = {}
    parent: dict[str, str] = {}

    def root(layer: str) -> str:
        while parent[layer] != layer:
            layer = parent[layer]
        return layer

    def tie(nodes: Iterable[TracedNode], pairs: Collection[tuple[str, str]]) -> None:
        ties.update(dict.fromkeys(nodes, frozenset(layer for pair in pairs for layer in pair)))
        for first, second in pairs:
            parent[root(second)] = root(first)

    for node in graph.nodes:
        layout = _layout(node, layouts, untied)
        if layout is not None and (is_sum(node) or is_depthwise(node)) and node.live:
            tie([node], _tied(node, layouts))
        elif layout is None and _makes_units(node) and len(calls[node.target]) == 1:
            parent[node.target] = node.target
            layout = (Segment(node.target, _width(node)),)
        elif layout is None and node not in untied and (joint := _joint(graph, node, layouts)):
            layout, *others = joint.layouts
            tie([node, *joint.between], [pair for other in others for pair in _pairs(layout, other)])
        layouts[node] = layout or ((Segment(NOBODY, _width(node)),) if _width(node) else ())
    grouped: dict[str, list[str]] = {}
    for layer in parent:
        grouped.setdefault(root(layer), []).append(layer)
    ordered = sorted(grouped.values(), key=lambda layers: list(parent).index(layers[0]))
    return Ties(ties, tuple(tuple(layers) for layers in ordered))


def _joint(graph: Graph, node: TracedNode, layouts: Mapping[TracedNode, Layout]) -> Joint | None:
    return product_of_units(graph, node, layouts) or combined_units(graph, node, layouts)


def _makes_units(node: TracedNode) -> bool:
    expected = 2 if node.op is ops.LINEAR else node.axes + 2
    return is_weighted(node) and node.shape is not None and len(node.shape) == expected


def _layout(node: TracedNode, layouts: Mapping[TracedNode, Layout], untied: Collection[TracedNode]) -> Layout | None:
    """Where the units that a call reads lie in what it makes; None where it carries none on."""
    if not node.live or not _width(node):
        return None
    if is_sum(node):
        first, second = (layouts[each] for each in operands(node))
        known = all(is_units(each) for each in (first, second))
        return first if node not in untied and known and _fits(node) and lie_alike(first, second) else None
    if (parts := joined(node)) is not None:
        return tuple(segment for part in parts for segment in _part(part, layouts))
    if len(node.live_sources) != 1:
        return None
    (source,) = node.live_sources
    if not _width(source):
        return None
    if is_depthwise(node):
        carried = node not in untied and is_units(layouts[source])
        return widened(layouts[source], _width(node) // _width(source)) if carried else None
    if is_weighted(node):
        return None
    factor = span_after(source, node)
    return None if factor is None else widened(layouts[source], factor)


def _part(part: TracedNode | Tensor, layouts: Mapping[TracedNode, Layout]) -> Layout:
    if isinstance(part, TracedNode):
        return layouts[part]
    return (Segment(NOBODY, part.shape[1]),)


def _tied(node: TracedNode, layouts: Mapping[TracedNode, Layout]) -> list[tuple[str, str]]:
    """The layers that a sum ties, pair by pair; those that a depthwise convolution carries, each with itself."""
    if not is_sum(node):
        (source,) = node.live_sources
        return _pairs(layouts[source], layouts[source])
    first, second = operands(node)
    return _pairs(layouts[first], layouts[second])


def _pairs(first: Layout, second: Layout) -> list[tuple[str, str]]:
    return [(one.layer, other.layer) for one, other in zip(first, second, strict=True)]


def _fits(node: TracedNode) -> bool:
    """Whether a sum repeats neither operand along an axis."""
    return all(each.shape == node.shape for each in operands(node))


def _width(node: TracedNode) -> int:
    return node.shape[1] if node.shape is not None and len(node.shape) > 1 else 0
