"""Who feeds whom: where the units of a layer go, which BatchNorms rescale them, which columns read them.

A unit's way is followed through the traced model (torch.fx) as long as each operation keeps units apart and
maps 0 to 0: BatchNorm (made to), ReLU, pools, dropout, flatten, concatenation, a constant factor. It ends at layers
that read it, and at sums: a unit that emits 0 leaves the other summands as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from training.errors import UnsupportedGraph
from training.inference import evaluating, weight_type
from training.pruning.operations import (
    NORMS,
    WEIGHTED,
    is_relu,
    is_sum,
    joined,
    kind_of,
    live_nodes,
    module_of,
    reads_as_image,
    shape_of,
    span_after,
    users,
    weighs,
)


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units: unit j is its input columns offset + j*span .. offset + (j+1)*span - 1.

    For convolutions and norms the columns are channels.
    """

    layer: str
    span: int
    offset: int = 0

    def spread(self, units: Tensor, width: int) -> Tensor:
        """A bool per unit as a bool per column of a layer of that width; False for what others feed."""
        columns = units.repeat_interleave(self.span)
        spread = torch.zeros(width, dtype=torch.bool)
        spread[self.offset : self.offset + len(columns)] = columns
        return spread


@dataclass(frozen=True)
class Links:
    """The way of one layer's units: how many there are, the BatchNorms on the way, and the layers that read them."""

    layer: str
    units: int
    norms: tuple[Reader, ...]
    readers: tuple[Reader, ...]


def consumers(model: nn.Module, example_input: Tensor, layers: Iterable[str] | None = None) -> dict[str, Links]:
    """The links of the named layers, or of every Linear, Conv1d and Conv2d layer whose units a ReLU gates.

    `example_input` [n, ...] gives the shapes.
    Raises UnsupportedGraph that names the layer and the operation where the units' way cannot be followed: a constant
    added on the way, a layer that is called twice, a norm over units, a model that torch.fx cannot trace.
    """
    traced = trace(model, example_input)
    live = live_nodes(traced.graph)
    nodes = {str(node.target): node for node in traced.graph.nodes if isinstance(module_of(traced, node), WEIGHTED)}
    if layers is None:
        names = [name for name, node in nodes.items() if _ungated(traced, node, live) is None]
    else:
        names = list(layers)
    for name in names:
        if name not in nodes:
            raise UnsupportedGraph(
                f"layer {name!r} is no Linear, Conv1d or Conv2d that the model calls: name one of its layers"
            )
        reason = _ungated(traced, nodes[name], live)
        if reason is not None:
            raise UnsupportedGraph(f"layer {name!r} is gated by no ReLU: {reason}, so its units cannot be removed")
    return {name: _follow(traced, nodes[name], live) for name in names}


def trace(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    """The model as a graph with shapes, in evaluation mode, without what nothing uses; its modules are the model's.

    Raises UnsupportedGraph where torch.fx cannot trace it or a layer is called twice.
    """
    weight = next(model.parameters(), example_input)
    with evaluating(model), torch.no_grad():
        try:
            traced = fx.symbolic_trace(model)
            for node in reversed(traced.graph.nodes):  # what nothing uses reads nothing
                if not node.users and node.op not in ("placeholder", "output"):
                    traced.graph.erase_node(node)
            ShapeProp(traced).propagate(example_input.to(weight.device, weight_type(model)))
        except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise UnsupportedGraph(
                f"model {type(model).__name__} cannot be traced by torch.fx ({error}): "
                f"write its forward without branches on tensor values"
            ) from error
    calls = Counter(
        node.target for node in traced.graph.nodes if isinstance(module_of(traced, node), (*WEIGHTED, *NORMS))
    )
    for name, count in calls.items():
        if count > 1:
            raise UnsupportedGraph(f"layer {name!r} is called {count} times: shared layers cannot be pruned; use two")
    return traced


def _ungated(traced: fx.GraphModule, node: fx.Node, live: set[fx.Node]) -> str | None:
    """Why no ReLU gates the layer's units, None where one alone reads what they emit."""
    while True:
        using = users(node)
        if len(using) != 1:
            return f"{node.name!r} is read by {len(using)} operations"
        source, (node,) = node, using
        if is_relu(traced, node):
            return None
        if joined(node) is None and span_after(traced, source, node, live) is None:
            return f"{node.name!r} ({kind_of(traced, node)}) reads them first"


def _follow(traced: fx.GraphModule, start: fx.Node, live: set[fx.Node]) -> Links:
    layer = str(start.target)
    _check_weights(traced, layer, layer)
    module, shape = traced.get_submodule(layer), _shape(start)
    expected = next(axes for kind, axes in ((nn.Linear, 2), (nn.Conv1d, 3), (nn.Conv2d, 4)) if isinstance(module, kind))
    if len(shape) != expected:
        raise UnsupportedGraph(f"layer {layer!r} emits shape {shape}: its units must be axis 1 of {expected}")
    norms: list[Reader] = []
    readers: list[Reader] = []
    pending = [(start, Reader(layer, 1))]  # where the units are, and how they lie there
    seen = set(pending)
    while pending:
        source, lying = pending.pop(0)
        for node in users(source):
            for here in positions_after(traced, layer, source, node, lying, live):
                if isinstance(module_of(traced, node), WEIGHTED):
                    _check_weights(traced, layer, here.layer)
                    readers.append(here)
                    continue
                if isinstance(module_of(traced, node), NORMS):
                    norms.append(here)
                if (node, here) not in seen:
                    seen.add((node, here))
                    pending.append((node, here))
    return Links(layer, shape[1], tuple(dict.fromkeys(norms)), tuple(dict.fromkeys(readers)))


def _check_weights(traced: fx.GraphModule, layer: str, touched: str) -> None:
    """Zeroing rows or columns is exact only where the weight is a parameter of this one layer."""
    weight = dict(traced.get_submodule(touched).named_parameters(recurse=False)).get("weight")
    names = [name for name, value in traced.named_parameters(remove_duplicate=False) if value is weight]
    attributes = [node for node in traced.graph.nodes if node.op == "get_attr" and node.target in names]
    reads = [node.name for node in attributes if weighs(node, live_nodes(traced.graph))]
    if weight is None or len(names) > 1 or reads:
        how = "computed from other parameters" if weight is None else f"shared by {' and '.join((*names, *reads))}"
        raise UnsupportedGraph(
            f"layer {layer!r}: the weight of {touched!r} is {how}, so its units cannot be cut; give it its own weight"
        )


def positions_after(
    traced: fx.GraphModule, layer: str, source: fx.Node, node: fx.Node, lying: Reader, live: set[fx.Node]
) -> Iterator[Reader]:
    """How `node` reads the units that lie so in `source`, once for each time it does; refuses what mixes them.

    Not at all where their way ends in a sum or in a function with weights: what emits 0 adds nothing there.
    """
    module, name = module_of(traced, node), str(node.target)
    if node.op == "output":
        raise UnsupportedGraph(f"layer {layer!r} reaches the model's output through {source.name!r}: nothing reads it")
    if is_sum(node, live) or reads_as_image(node, source):
        return
    if isinstance(module, nn.Conv1d | nn.Conv2d) or (isinstance(module, nn.Linear) and len(_shape(source)) == 2):
        yield Reader(name, lying.span, lying.offset)
    elif (parts := joined(node)) is not None:
        before = 0
        for part in parts:
            if part is source:
                yield Reader(name, lying.span, lying.offset + before)
            before += _shape(part)[1]
    elif (factor := span_after(traced, source, node, live)) is not None:
        yield Reader(name, lying.span * factor, lying.offset * factor)
    else:
        raise UnsupportedGraph(
            f"layer {layer!r}: its units cannot be followed through {node.name!r} ({kind_of(traced, node)}); "
            f"leave this layer out of the masks"
        )


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape = shape_of(node)
    if shape is None:
        raise UnsupportedGraph(f"operation {node.name!r} returns more than one tensor: its units cannot be followed")
    return shape
