"""Units with gates in a traced network: where each gate acts, on a unit's own ways or on those of its group.

What residual sums, depthwise convolutions and squeeze-and-excitation tie together is one unit with one gate, as in a
lowered network: it acts where the group's ways end. So does the gate of a layer that no activation function follows,
and that of an attention head, on what the head hands to the projection behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from formulation.lowering.derivatives.unit_layouts import IMAGES
from formulation.lowering.derivatives.unit_ways import Ways, unit_ways
from formulation.network import NO_UNIT, Index, Layer
from tracing import WEIGHTED, Graph, TracedNode, ops
from tracing.units import UnitGroup, UnitGroups, all_groups


@dataclass(frozen=True, eq=False)
class GatePlace:
    """Where gates act: on the entries of an axis of a value, for some of its readers; NO_UNIT where none does."""

    axis: int
    gate: Index
    readers: frozenset[TracedNode]


@dataclass(frozen=True, eq=False)
class GatedUnits:
    """The layers whose units have gates, one after the other, where these act, and why other layers have none."""

    layers: tuple[Layer, ...]
    places: Mapping[TracedNode, tuple[GatePlace, ...]]
    unscored: Mapping[str, str]


def gated_units(graph: Graph, logits: TracedNode) -> GatedUnits:
    """The gates of every Linear and convolution whose units can be followed, numbered one after the other.

    Args:
        graph: traced on `IMAGES` images.
        logits: the node that makes them.
    """
    ways = unit_ways(graph, logits)
    followed = all_groups(graph)
    groups = _groups(followed, ways, graph.before(logits) | {logits})
    # What scales units has to go with them: where no group has both, nothing can be removed.
    refused = {name: why for name, why in followed.reasons.items() if name in ways.scaled and name in ways.makers}
    owned = {member for group in groups.values() for member in group.members}
    layers: list[Layer] = []
    first: dict[str, int] = {}
    count = 0
    for name, kernel in _kernels(graph).items():
        if name in groups:
            layers.append(Layer(name, groups[name].units, kernel, groups[name].members[1:]))
        elif name in ways.makers and name not in owned and name not in refused:
            layers.append(ways.makers[name].layer)
        else:
            continue
        first[name] = count
        count += layers[-1].units
    acting = _Acting()
    _place_ways(acting, ways, {name: number for name, number in first.items() if name not in groups})
    _place_groups(acting, groups, first)
    left = dict.fromkeys(graph.attentions, "the batch does not come first where its heads are handed on")
    left |= {name: why for name, why in followed.reasons.items() if name in graph.attentions}
    unscored = {name: reason for name, reason in {**ways.unscored, **refused, **left}.items() if name not in owned}
    return GatedUnits(tuple(layers), acting.places(), unscored)


def _groups(followed: UnitGroups, ways: Ways, wanted: set[TracedNode]) -> dict[str, UnitGroup]:
    """The groups of several layers, and of single ones that no way of their own leads through an activation."""
    return {
        name: group
        for name, group in followed.groups.items()
        if (len(group.members) > 1 or (group.coupled and name not in ways.makers))
        and any(end.reader in wanted for end in group.ends)
        and all(end.source.shape is not None and end.source.shape[0] == IMAGES for end in group.ends)
    }


def _kernels(graph: Graph) -> dict[str, int]:
    """By layer that makes units, in the order of the calls, the pixels of its kernel."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node.layer, WEIGHTED) and node.op in (ops.LINEAR, ops.CONVOLUTION):
            found.setdefault(node.target, int(np.prod(node.layer.weight.shape[2:])))
        elif name := graph.attention_of(node):
            found.setdefault(name, 1)
    return found


class _Acting:
    """The gates as far as they have been placed: of each value, for each of its readers."""

    def __init__(self) -> None:
        self.gates: dict[tuple[TracedNode, TracedNode, int], Index] = {}

    def at(self, source: TracedNode, reader: TracedNode, axis: int) -> Index:
        """The gates of the entries of an axis of what a reader takes, to be filled."""
        assert source.shape is not None, "units lie in tensors"
        place = (source, reader, axis % len(source.shape))
        return self.gates.setdefault(place, np.full(source.shape[axis], NO_UNIT))

    def places(self) -> dict[TracedNode, tuple[GatePlace, ...]]:
        """Readers that take a value with the same gates take the same."""
        alike: dict[TracedNode, dict[tuple[int, bytes], list[TracedNode]]] = {}
        for (source, reader, axis), gate in self.gates.items():
            if (gate != NO_UNIT).any():
                alike.setdefault(source, {}).setdefault((axis, gate.tobytes()), []).append(reader)
        return {source: tuple(_places_of(found)) for source, found in alike.items()}


def _places_of(found: Mapping[tuple[int, bytes], list[TracedNode]]) -> Iterator[GatePlace]:
    for (axis, gate), readers in found.items():
        yield GatePlace(axis, np.frombuffer(gate, dtype=np.int64), frozenset(readers))


def _place_ways(acting: _Acting, ways: Ways, first: Mapping[str, int]) -> None:
    makers = [(ways.makers[name], number) for name, number in first.items()]
    position = np.full(max((maker.end for maker in ways.makers.values()), default=0) + 1, NO_UNIT)
    for maker, number in makers:
        position[maker.first : maker.end] = np.arange(number, number + maker.layer.units)
    for source, (lying, readers) in ways.ends.items():
        gates = np.where(lying.unit < len(position) - 1, position[np.minimum(lying.unit, len(position) - 1)], NO_UNIT)
        for reader in readers:
            acting.at(source, reader, lying.axis)[:] = gates


def _place_groups(acting: _Acting, groups: Mapping[str, UnitGroup], first: Mapping[str, int]) -> None:
    for name, group in groups.items():
        gates = np.arange(first[name], first[name] + group.units)
        for end in group.ends:
            entries = np.repeat(gates, end.lying.span)
            acting.at(end.source, end.reader, group.axis)[end.lying.offset : end.lying.offset + len(entries)] = entries
