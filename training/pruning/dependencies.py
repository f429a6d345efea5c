"""Dependency graph: the layers that make and read each unit, the BatchNorms that rescale it, the columns that read it.

The units and their ways are those of `tracing.units`: what a residual sum or a depthwise convolution ties together is
one unit under the name of its first layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from tracing import Graph, TracedNode, TracingError, ops
from tracing import trace as traced_graph
from tracing.units import Reader, UnitGroup, UnitGroups, token_groups, unit_groups, why_ungated
from training.errors import UnsupportedGraph


@dataclass(frozen=True)
class Links:
    """The way of one group's units: how many there are, the layers that make them, BatchNorms on the way, readers.

    `tied` are the layers beside `layer` that make them as well; `depthwise`, the depthwise convolutions on the way,
    each with the outputs that are theirs. `summed`: the way also ends in a sum or in a function with weights, where
    every unit needs its own place.
    """

    layer: str
    units: int
    norms: tuple[Reader, ...]
    readers: tuple[Reader, ...]
    summed: bool = False
    tied: tuple[str, ...] = ()
    depthwise: tuple[Reader, ...] = ()

    @property
    def members(self) -> tuple[Reader, ...]:
        """The layers whose outputs go with the units, with where the units lie there."""
        return (*(Reader(name, 1) for name in (self.layer, *self.tied)), *self.depthwise)


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
        name: Links(name, each.units, each.norms, each.readers, each.summed, each.layers[1:], each.depthwise)
        for name, each in found.items()
    }


def groups_of(graph: Graph, layers: Iterable[str] | None = None) -> dict[str, UnitGroup]:
    """The groups of units of these names.

    Args:
        graph: of the whole model.
        layers: as for `consumers`.

    Raises:
        UnsupportedGraph: as `consumers`.
    """
    found = unit_groups(graph).joined_with(token_groups(graph))
    if layers is None:
        calls = weighted_calls(graph)
        layers = [*found.groups, *(name for name in found.reasons if not why_ungated(graph, calls[name]))]
    return {name: _group(graph, found, name) for name in layers}


def _group(graph: Graph, found: UnitGroups, name: str) -> UnitGroup:
    if name in found.groups:
        return found.groups[name]
    if name not in weighted_calls(graph):
        raise UnsupportedGraph(
            f"layer {name!r} is no Linear, Conv1d or Conv2d that the model calls: name one of its layers"
        )
    if name in found.owner:
        raise UnsupportedGraph(
            f"the units of layer {name!r} are those of {found.owner[name]!r}: a sum or a depthwise convolution ties "
            f"them, and they are kept or removed as one; name {found.owner[name]!r}"
        )
    raise UnsupportedGraph(found.reasons[name])


def trace_for_pruning(model: nn.Module, example_input: Tensor) -> Graph:
    """The model's traced graph, in which each layer with weights is called once.

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
    for name, calls in graph.calls(ops.LINEAR, ops.CONVOLUTION, ops.BATCH_NORM).items():
        if len(calls) > 1:
            raise UnsupportedGraph(
                f"layer {name!r} is called {len(calls)} times: shared layers cannot be pruned; use two"
            )
    return graph


def weighted_calls(graph: Graph) -> dict[str, TracedNode]:
    """The calls of Linear and convolution layers by the layers' names."""
    return {name: call for name, (call,) in graph.calls(ops.LINEAR, ops.CONVOLUTION).items()}
