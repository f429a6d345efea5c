"""Units of several rows: attention heads, and linear units with the gates that one layer makes for them.

    head_j = softmax(Q_j K_j') V_j        unit_j = a_j * sigmoid(b_j),  [a, b] = W x

Their gate lies where they are handed to the layer that mixes them, such as the projection behind attention. A head
whose rows of the values have no weights and no bias hands on 0, whatever its queries and keys are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from tracing.errors import Unfollowable
from tracing.graph import Graph, TracedNode
from tracing.units.contractions import mixes
from tracing.units.grouping import UnitGroup, UnitGroups, Way, unit_groups
from tracing.units.positions import Reader, ends_way, positions_after, shape_of
from tracing.units.rows import RowWays, layers_before
from tracing.units.tokens import ends_way_of_tokens, positions_on_tokens, token_groups

REMEDY = "leave this layer out of the masks"


def all_groups(graph: Graph) -> UnitGroups:
    """The groups of units of a graph whose example got through: of channels, on tokens, and of several rows.

    Args:
        graph: of the whole module.

    Returns:
        Every layer that is called is in a group or has a reason; so has every attention layer of torch.
    """
    single = unit_groups(graph).joined_with(token_groups(graph))
    return single.joined_with(composite_groups(graph, single.owner))


def composite_groups(graph: Graph, taken: Collection[str] = ()) -> UnitGroups:
    """The attention heads and gated linear units of a graph, each of several rows of one layer or of several.

    Args:
        graph: of the whole module.
        taken: layers whose rows are units of their own.

    Returns:
        The groups; of attention layers, and of layers that attention joins with others, why they are in none.
    """
    ways = RowWays(graph, taken)
    found: dict[str, UnitGroup] = {}
    reasons = {name: _not_followed(name) for name in graph.attentions}
    parted: set[str] = set()  # layers some of whose units cannot be followed
    for node in graph.nodes:
        if not ways.is_joined(node) or all(ways.is_joined(user) for user in graph.users[node]):
            continue
        inside, layers = layers_before(ways, node)
        name = layers[0]
        try:
            group = _group(graph, ways, node, inside, layers)
        except Unfollowable as error:
            parted |= set(layers)
            reasons |= dict.fromkeys(layers if mixes(inside) else (), str(error))
            continue
        if any(set(each.layers) & set(layers) for each in found.values()):
            parted |= set(layers)
            reasons |= dict.fromkeys(layers, f"layer {name!r}: its units go several ways; {REMEDY}")
            continue
        found[group.name] = group
    found = {name: group for name, group in found.items() if parted.isdisjoint(group.layers)}
    owner = {layer: name for name, group in found.items() for layer in group.layers}
    return UnitGroups(found, owner, {name: why for name, why in reasons.items() if name not in owner})


def _not_followed(name: str) -> str:
    return f"layer {name!r}: its heads cannot be followed to a layer that reads them alone; {REMEDY}"


def _group(
    graph: Graph, ways: RowWays, node: TracedNode, inside: Collection[TracedNode], layers: list[str]
) -> UnitGroup:
    """The units of a value whose rows are joined, and their way from there."""
    name = layers[0]
    rows = ways.found[node]
    assert rows is not None, "it is joined"
    for each in inside:
        users = graph.users[each]
        outside = [user for user in users if user not in inside]
        if each is not node and outside:
            raise Unfollowable(f"layer {name!r}: {outside[0].where} reads a part of its units; {REMEDY}")
        if len(users) > 1 and (over := next((user for user in users if user.in_place), None)) is not None:
            raise Unfollowable(
                f"layer {name!r}: {over.where} writes over {each.name!r}, which other operations read too; "
                f"use inplace=False"
            )
    if not rows.keeps_zero:
        raise Unfollowable(f"layer {name!r}: what is removed of it does not hand on 0 in {node.where}; {REMEDY}")
    axis, numbers, span = _lying(name, node, ways.joined.labels(rows.entries))
    units = len(numbers)
    members = tuple(reader for layer in layers for reader in _rows_of(ways, layer, numbers))
    on_tokens = axis == len(shape_of(node)) - 1 and axis > 1
    followed = (positions_on_tokens, ends_way_of_tokens) if on_tokens else (positions_after, ends_way)
    way = Way(graph, name, (), *followed)
    way.walk([node], span)
    if way.summed:
        raise Unfollowable(
            f"layer {name!r}: its units of several rows end in a sum with other values, or where they are laid out "
            f"anew; {REMEDY}"
        )
    return UnitGroup(
        name=name,
        units=units,
        rows=members,
        depthwise=(),
        norms=tuple(dict.fromkeys(way.norms)),
        readers=tuple(dict.fromkeys(way.readers)),
        ends=tuple(way.ends),
        gate=None,
        summed=False,
        axis=-1 if on_tokens else 1,
    )


def _lying(name: str, node: TracedNode, labels: Tensor) -> tuple[int, list[int], int]:
    """The axis of the units in a value, their labels in order, and how many entries side by side each has."""
    last = labels.ndim - 1
    for axis in dict.fromkeys((last, 1)):
        others = [d for d in range(labels.ndim) if d != axis]
        line = labels.amax(others)
        if bool((labels == line.reshape([-1 if d == axis else 1 for d in range(labels.ndim)])).all()):
            numbers = list(dict.fromkeys(line.tolist()))
            span = len(line) // len(numbers)
            if len(numbers) > 1 and torch.equal(line, torch.tensor(numbers).repeat_interleave(span)):
                return axis, numbers, span
            if len(numbers) == 1:
                raise Unfollowable(f"layer {name!r}: all of its rows are one unit, as one head is, which must stay")
    raise Unfollowable(f"layer {name!r}: its units of several rows do not lie side by side in {node.where}; {REMEDY}")


def _rows_of(ways: RowWays, layer: str, numbers: list[int]) -> list[Reader]:
    """Where the units lie in the rows of a layer."""
    labels = ways.joined.labels(torch.arange(ways.first[layer], ways.first[layer] + ways.widths[layer]))
    unit = {number: j for j, number in enumerate(numbers)}
    runs = _in_runs((unit.get(label, -1) for label in labels.tolist()), len(numbers))
    if runs is None:
        raise Unfollowable(f"layer {layer!r}: the rows of its units do not lie side by side; {REMEDY}")
    return [Reader(layer, span, offset) for offset, span in runs]


def _in_runs(units: Iterable[int], count: int) -> list[tuple[int, int]] | None:
    """Runs (offset, span) such that unit j has rows offset + j span .. offset + (j + 1) span - 1 of each; else None.

    Args:
        units: the unit of each row of a layer.
        count: how many units there are.
    """
    numbers = list(units)
    runs: list[tuple[int, int]] = []
    start = 0
    while start < len(numbers):
        span = 0
        while start + span < len(numbers) and numbers[start + span] == 0:
            span += 1
        expected = [unit for unit in range(count) for _ in range(span)]
        if not span or numbers[start : start + len(expected)] != expected:
            return None
        runs.append((start, span))
        start += len(expected)
    return runs
