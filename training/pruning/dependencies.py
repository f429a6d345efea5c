"""Dependency graph: the layers that make and read each unit, the BatchNorms that rescale it, the columns that read it.

The units and their ways are those of `tracing.units`: what a residual sum or a depthwise convolution ties together is
one unit under the name of its first layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracing import Graph, TracedNode, TracingError, ops
from tracing import trace as traced_graph
from tracing.units import Reader, UnitGroup, UnitGroups, all_groups, is_depthwise, is_weighted, why_ungated
from training.errors import UnsupportedGraph


@dataclass(frozen=True)
class Links:
    """The way of one group's units: how many there are, the layers that make them, BatchNorms on the way, readers.

    `tied` are the layers beside `layer` that make them as well; `depthwise`, the depthwise convolutions on the way,
    each with the outputs that are theirs. `summed`: the way also ends in a sum or in a function with weights, where
    every unit needs its own place. `rows`: where units of several rows, as attention heads are, lie in what the layers
    make; empty where each unit is one row of each layer.
    """

    layer: str
    units: int
    norms: tuple[Reader, ...]
    readers: tuple[Reader, ...]
    summed: bool = False
    tied: tuple[str, ...] = ()
    depthwise: tuple[Reader, ...] = ()
    rows: tuple[Reader, ...] = ()

    @property
    def makers(self) -> tuple[Reader, ...]:
        """The layers that make the units, with where the units lie there."""
        return self.rows or tuple(Reader(name, 1) for name in (self.layer, *self.tied))

    @property
    def members(self) -> tuple[Reader, ...]:
        """The layers whose outputs go with the units, with where the units lie there."""
        return (*self.makers, *self.depthwise)

    def rows_of(self, layer: str, units: Tensor, width: int) -> Tensor:
        """A bool per unit as a bool per output of a layer that makes the units."""
        spread = [each.spread(units, width) for each in self.makers if each.layer == layer]
        return torch.stack(spread).any(0)


def consumers(model: nn.Module, example_input: Tensor, layers: Iterable[str] | None = None) -> dict[str, Links]:
    """Which layers make and read the units of each group, through whatever lies between.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.
        layers: names of groups, each that of its first layer; by default every group of Linear, Conv1d and Conv2d
            layers but those that cannot be followed and that no ReLU gates.

    Returns:
        By group, its links.

    Raises:
        UnsupportedGraph: the units' way cannot be followed (a constant added on the way, a layer that is called twice,
            a norm over units, a model that torch.fx cannot trace), or a layer is one with another; names the layer and
            the operation.
    """
    graph = trace_for_pruning(model, example_input)
    found = groups_of(graph, layers)
    return {
        name: Links(
            name, each.units, each.norms, each.readers, each.summed, each.layers[1:], each.depthwise, _several(each)
        )
        for name, each in found.items()
    }


def summed_layers(model: nn.Module, example_input: Tensor, layers: Iterable[str]) -> tuple[str, ...]:
    """Those of the layers whose outputs are summed with those of another layer of their group, as in a residual stream.

    Their units are read by all that follows, and may be worth more than what is known of them layer by layer. Products,
    attention and the like, by which layers make units together as well, are no sums.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.
        layers: names of groups.

    Returns:
        Their names; none where the units cannot be followed, and none where all are summed.
    """
    names = tuple(layers)
    try:
        graph = trace_for_pruning(model, example_input)
        groups = groups_of(graph, names)
    except UnsupportedGraph:
        return ()
    found = tuple(name for name in names if _are_summed(graph, groups[name].layers))
    return found if len(found) < len(names) else ()


def _are_summed(graph: Graph, layers: tuple[str, ...]) -> bool:
    """Whether the outputs of two of the layers meet in a sum before another layer reads them."""
    calls = weighted_calls(graph)
    made = {layer: _before_a_layer(graph, calls[layer]) for layer in layers if layer in calls}
    return any(
        any(one in made[first] and other in made[second] for first in made for second in made if first != second)
        for node in graph.nodes
        if node.op is ops.ADD and len(node.live_sources) == 2
        for one, other in [node.live_sources]
    )


def _before_a_layer(graph: Graph, call: TracedNode) -> set[TracedNode]:
    """The values that a layer's output goes into, through depthwise convolutions, until another layer reads it."""
    found, waiting = set(), [call]
    while waiting:
        node = waiting.pop()
        found.add(node)
        waiting += [each for each in graph.users[node] if each not in found and not _reads(each)]
    return found


def _reads(node: TracedNode) -> bool:
    return is_weighted(node) and not is_depthwise(node)


def _several(group: UnitGroup) -> tuple[Reader, ...]:
    """The rows of units of several rows; none for units that are one row of each layer."""
    plain = len(group.layers) == len(group.rows) and all(each.span == 1 for each in group.rows)
    return () if plain else group.rows


def unfollowed(model: nn.Module, example_input: Tensor, layers: Iterable[str]) -> dict[str, str]:
    """Those of the layers whose units cannot be removed, each with the reason.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.
        layers: names of groups.
    """
    names = tuple(layers)
    try:
        graph = trace_for_pruning(model, example_input)
    except UnsupportedGraph as error:
        return dict.fromkeys(names, str(error))
    found = all_groups(graph)
    refused = {}
    for name in names:
        try:
            _group(graph, found, name)
        except UnsupportedGraph as error:
            refused[name] = str(error)
    return refused


def groups_of(graph: Graph, layers: Iterable[str] | None = None) -> dict[str, UnitGroup]:
    """The groups of units of these names.

    Args:
        graph: of the whole model.
        layers: as for `consumers`.

    Raises:
        UnsupportedGraph: as `consumers`.
    """
    found = all_groups(graph)
    if layers is None:
        calls = weighted_calls(graph)
        ungrouped = (name for name in found.reasons if name in calls and not why_ungated(graph, calls[name]))
        layers = [*found.groups, *ungrouped]
    return {name: _group(graph, found, name) for name in layers}


def _group(graph: Graph, found: UnitGroups, name: str) -> UnitGroup:
    if name in found.groups:
        return found.groups[name]
    if name in found.owner:
        raise UnsupportedGraph(
            f"the units of layer {name!r} are those of {found.owner[name]!r}: a sum, a product or a depthwise "
            f"convolution ties them, and they are kept or removed as one; name {found.owner[name]!r}"
        )
    if name in found.reasons:
        raise UnsupportedGraph(found.reasons[name])
    raise UnsupportedGraph(
        f"layer {name!r} is no Linear, Conv1d or Conv2d that the model calls: name one of its layers"
    )


def trace_for_pruning(model: nn.Module, example_input: Tensor) -> Graph:
    """The model's traced graph, in which each layer with weights is called once, those inside attention apart.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.

    Raises:
        UnsupportedGraph: it cannot be traced, the example does not fit, or a layer is called twice.
    """
    try:
        graph = traced_graph(model, example_input).fitting()
    except TracingError as error:
        raise UnsupportedGraph(str(error)) from error
    inside = {f"{name}.out_proj" for name in graph.attentions}
    for name, calls in graph.calls(ops.LINEAR, ops.CONVOLUTION, ops.BATCH_NORM).items():
        if len(calls) > 1 and name not in inside:
            raise UnsupportedGraph(
                f"layer {name!r} is called {len(calls)} times: shared layers cannot be pruned; use two"
            )
    return graph


def weighted_calls(graph: Graph) -> dict[str, TracedNode]:
    """The calls of Linear and convolution layers by the layers' names."""
    return {name: call for name, (call, *_) in graph.calls(ops.LINEAR, ops.CONVOLUTION).items()}
