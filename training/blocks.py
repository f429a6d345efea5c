"""A network cut into blocks: each reads what the one before it makes, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from torch import Tensor, fx, nn

from training.errors import BlockError
from training.pruning.channels import trace
from training.pruning.operations import WEIGHTED, live_nodes, module_of, shape_of


@dataclass(frozen=True, eq=False)
class Block:
    """A slice of a network, named by the layer that it begins with.

    `module` maps values [n, *reads] to values [n, *makes]; its layers are the network's own, under the same qualified
    names, so whoever trains the block trains the network. Pixels are what the first block reads, logits what the last
    one makes.
    """

    name: str
    module: fx.GraphModule
    reads: tuple[int, ...]
    makes: tuple[int, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The qualified names of its Linear and convolution layers, in the order in which they are called."""
        return tuple(str(node.target) for node, _layer in self._calls)

    @property
    def multiply_adds(self) -> int:
        """Of its Linear and convolution layers, for one image."""
        return sum(layer.weight.numel() * (_values(node) // len(layer.weight)) for node, layer in self._calls)

    @property
    def activations(self) -> int:
        """How many values its Linear and convolution layers make of one image."""
        return sum(_values(node) for node, _layer in self._calls)

    @property
    def _calls(self) -> list[tuple[fx.Node, nn.Linear | nn.Conv1d | nn.Conv2d]]:
        """Of its Linear and convolution layers, beside the layer itself."""
        found = [(node, module_of(self.module, node)) for node in self.module.graph.nodes]
        return [(node, layer) for node, layer in found if isinstance(layer, WEIGHTED)]


def split(model: nn.Module, example_input: Tensor, cuts: Sequence[str] | None = None) -> tuple[Block, ...]:
    """The network as blocks, one more than there are cuts; each cut stands before the layer that it names.

    Without `cuts`, before every convolution but the first whose input is all that the rest of the network reads: in a
    residual network those that begin a residual block. What stands before the first layer belongs to the first block.
    `example_input` [n, ...] gives the shapes. Running the blocks one after the other computes what the model computes.
    Raises BlockError for a layer that does not exist, is a first one or stands before another cut, and where a branch
    leads across a cut; UnsupportedGraph where the model cannot be traced.
    """
    traced = trace(model, example_input)
    calls = {str(node.target): node for node in traced.graph.nodes if isinstance(module_of(traced, node), WEIGHTED)}
    live = live_nodes(traced.graph)
    if cuts is None:
        convolutions = [name for name, node in calls.items() if not isinstance(module_of(traced, node), nn.Linear)]
        named = {name: _read_by(calls[name]) for name in convolutions}
        inside = {name: node for name, node in named.items() if _has_layers_before(traced, node)}
        chosen = {name: node for name, node in inside.items() if _crossing(traced.graph, node, live) is None}
    else:
        if twice := next((name for name in cuts if list(cuts).count(name) > 1), None):
            raise BlockError(f"the cut before {twice!r} is named twice: name it once")
        chosen = {name: _read_by(_call(calls, name)) for name in cuts}
        for name, node in chosen.items():
            if not _has_layers_before(traced, node):
                raise BlockError(f"a cut before {name!r} cuts nothing off: no layer stands before it; name a later one")
            if crossing := _crossing(traced.graph, node, live):
                raise BlockError(
                    f"a cut before {name!r} is crossed by a branch: {crossing[1].name!r} behind it reads "
                    f"{crossing[0].name!r} before it; cut where one value alone is read"
                )
    order = {node: number for number, node in enumerate(traced.graph.nodes)}
    (inputs,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    starts = {inputs: next(iter(calls), "input")}
    for name, node in sorted(chosen.items(), key=lambda item: order[item[1]]):
        if node in starts and cuts is not None:
            raise BlockError(f"the cuts before {starts[node]!r} and {name!r} are the same: name one of them")
        starts.setdefault(node, name)
    (result,) = (node for node in traced.graph.nodes if node.op == "output")
    ends = [*list(starts)[1:], result.args[0]]
    return tuple(_block(traced, name, start, end) for (start, name), end in zip(starts.items(), ends, strict=True))


def _call(calls: dict[str, fx.Node], name: str) -> fx.Node:
    if name not in calls:
        near = get_close_matches(name, calls, n=1, cutoff=0.5)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise BlockError(
            f"cut {name!r}: the model calls no Linear or convolution of this name{guess}; name one it does"
        )
    return calls[name]


def _read_by(call: fx.Node) -> fx.Node:
    return call.all_input_nodes[0]


def _has_layers_before(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a Linear or convolution layer has a part in a node's value."""
    return any(isinstance(module_of(traced, each), WEIGHTED) for each in _before(node) | {node})


def _before(node: fx.Node, start: fx.Node | None = None) -> set[fx.Node]:
    """All that a node's value is made of, without the node; what makes `start` is not looked for."""
    found: set[fx.Node] = set()
    waiting = list(node.all_input_nodes)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += each.all_input_nodes if each is not start else []
    return found


def _crossing(graph: fx.Graph, cut: fx.Node, live: set[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """A node before the cut and one behind it that reads it; None where the cut's value is all that is read."""
    before = _before(cut)
    for node in graph.nodes:
        if node is cut or node in before:
            continue
        for read in node.all_input_nodes:
            # Constants of the network are no branch: a block holds its own.
            if read in before and read in live:
                return read, node
    return None


def _block(traced: fx.GraphModule, name: str, start: fx.Node, end: fx.Node) -> Block:
    graph = fx.Graph()
    copies = {start: graph.placeholder("values")}
    needed = _before(end, start) | {end}
    for node in traced.graph.nodes:
        if node in needed and node is not start:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[end])
    module = fx.GraphModule(traced, graph, class_name=f"Block_{name.replace('.', '_')}")
    return Block(name, module, _features(start), _features(end))


def _values(node: fx.Node) -> int:
    """How many values a node is, for one image."""
    return math.prod(_features(node))


def _features(node: fx.Node) -> tuple[int, ...]:
    shape = shape_of(node)
    if shape is None:
        raise BlockError(f"a block would end at {node.name!r}, which is not one tensor: cut elsewhere")
    return shape[1:]
