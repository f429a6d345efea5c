"""A network cut into blocks: each reads what the one before it makes, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from naming import did_you_mean
from tracing import Graph, TracedModule, TracedNode, ops, part
from tracing.units import unit_groups
from training.errors import BlockError
from training.pruning import is_weighted, trace_for_pruning, weighted_calls


@dataclass(frozen=True, eq=False)
class Block:
    """A slice of a network, named by the layer that it begins with.

    `module` maps values [n, *reads] to values [n, *makes]; its layers are the network's own, under the same qualified
    names, so whoever trains the block trains the network. Pixels are what the first block reads, logits what the last
    one makes.

    Attributes:
        layers: the qualified names of its Linear and convolution layers, in the order in which they are called.
        multiply_adds: of those layers, for one image.
        activations: how many values those layers make of one image.
        followers: of those layers the ones whose units are an earlier layer's in the whole network.
    """

    name: str
    module: TracedModule
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    layers: tuple[str, ...]
    multiply_adds: int
    activations: int
    followers: tuple[str, ...] = ()


def split(model: nn.Module, example_input: Tensor, cuts: Sequence[str] | None = None) -> tuple[Block, ...]:
    """The network as blocks, one more than there are cuts: run one after the other they compute what the model
    computes.

    Args:
        model: left as it was; the blocks' layers are its own.
        example_input: [n, ...], gives the shapes.
        cuts: names of layers, each with a cut before it; by default every convolution but the first whose input is all
            that the rest of the network reads: in a residual network those that begin a residual block. What stands
            before the first layer belongs to the first block. None stands before a depthwise convolution, which
            carries the units that it reads.

    Raises:
        BlockError: a cut at a layer that does not exist, is a first one or stands before another cut; a branch across a
            cut; a network that returns more than one tensor.
        UnsupportedGraph: the model cannot be traced.
    """
    graph = trace_for_pruning(model, example_input)
    calls = weighted_calls(graph)
    found = unit_groups(graph)
    carriers = {each.layer for group in found.groups.values() for each in group.depthwise}
    if cuts is None:
        convolutions = [name for name, call in calls.items() if call.op is ops.CONVOLUTION and name not in carriers]
        named = {name: _read_by(calls[name]) for name in convolutions}
        inside = {name: node for name, node in named.items() if _has_layers_before(graph, node)}
        chosen = {name: node for name, node in inside.items() if _crossing(graph, node) is None}
    else:
        if twice := next((name for name in cuts if list(cuts).count(name) > 1), None):
            raise BlockError(f"the cut before {twice!r} is named twice: name it once")
        chosen = {name: _read_by(_call(calls, name)) for name in cuts}
        for name, node in chosen.items():
            if name in carriers:
                raise BlockError(
                    f"a cut before {name!r} would part a depthwise convolution from the units that it carries: cut "
                    f"before or behind both"
                )
            if not _has_layers_before(graph, node):
                raise BlockError(f"a cut before {name!r} cuts nothing off: no layer stands before it; name a later one")
            if crossing := _crossing(graph, node):
                raise BlockError(
                    f"a cut before {name!r} is crossed by a branch: {crossing[1].name!r} behind it reads "
                    f"{crossing[0].name!r} before it; cut where one value alone is read"
                )
    order = {node: number for number, node in enumerate(graph.nodes)}
    (inputs,) = graph.inputs
    starts = {inputs: next(iter(calls), "input")}
    for name, node in sorted(chosen.items(), key=lambda item: order[item[1]]):
        if node in starts and cuts is not None:
            raise BlockError(f"the cuts before {starts[node]!r} and {name!r} are the same: name one of them")
        starts.setdefault(node, name)
    result = graph.output.given["values"]
    if not isinstance(result, TracedNode):
        raise BlockError("the network returns more than one tensor: return the logits alone")
    ends = [*list(starts)[1:], result]
    parts = zip(starts.items(), ends, strict=True)
    return tuple(_block(graph, found.owner, name, start, end) for (start, name), end in parts)


def _call(calls: dict[str, TracedNode], name: str) -> TracedNode:
    if name not in calls:
        hint = did_you_mean(name, calls)
        guess = f" ({hint})" if hint else ""
        raise BlockError(
            f"cut {name!r}: the model calls no Linear or convolution of this name{guess}; name one it does"
        )
    return calls[name]


def _read_by(call: TracedNode) -> TracedNode:
    return call.sources[0]


def _has_layers_before(graph: Graph, node: TracedNode) -> bool:
    """Whether a Linear or convolution layer has a part in a node's value."""
    return any(is_weighted(each) for each in graph.before(node) | {node})


def _crossing(graph: Graph, cut: TracedNode) -> tuple[TracedNode, TracedNode] | None:
    """A node before the cut and one behind it that reads it; None where the cut's value is all that is read."""
    before = graph.before(cut)
    for node in graph.nodes:
        if node is cut or node in before:
            continue
        for read in node.sources:
            # Constants of the network are no branch: a block holds its own.
            if read in before and read.live:
                return read, node
    return None


def _block(graph: Graph, owner: Mapping[str, str], name: str, start: TracedNode, end: TracedNode) -> Block:
    needed = graph.before(end, start) | {end}
    calls = [node for node in graph.nodes if node in needed and node is not start and is_weighted(node)]
    values = [math.prod(_features(call)) for call in calls]
    weights = [call.argument("weight") for call in calls]
    work = [weight.numel() * (made // len(weight)) for weight, made in zip(weights, values, strict=True)]
    return Block(
        name=name,
        module=part(graph, start, end, name=f"Block_{name.replace('.', '_')}"),
        reads=_features(start),
        makes=_features(end),
        layers=tuple(call.target for call in calls),
        multiply_adds=sum(work),
        activations=sum(values),
        followers=tuple(call.target for call in calls if owner.get(call.target, call.target) != call.target),
    )


def _features(node: TracedNode) -> tuple[int, ...]:
    if node.shape is None:
        raise BlockError(f"a block would end at {node.name!r}, which is not one tensor: cut elsewhere")
    return node.shape[1:]
