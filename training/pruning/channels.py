"""Who feeds whom: where the units of a layer go, which BatchNorms rescale them, which columns read them.

A unit's way is followed through the traced model (torch.fx) as long as each operation keeps units apart and
maps 0 to 0: BatchNorm (made to), ReLU, pools, dropout, flatten, a constant factor. It ends at Linear and Conv2d layers.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from training.errors import UnsupportedGraph
from training.inference import evaluating, weight_type

WEIGHTED = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
UNITWISE = (
    nn.ReLU,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
UNITWISE_FUNCTIONS = (
    torch.relu,
    functional.relu,
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.avg_pool2d,
    functional.max_pool2d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_max_pool2d,
    torch.max_pool2d,
    "contiguous",
)
RELUS = (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")
SCALINGS = (operator.mul, operator.truediv, torch.mul, torch.div)
FLATTENS = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
# Asking for a shape is no use of the units.
SHAPE_QUESTIONS = ("size", "dim")


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units: unit j is its input columns j*span .. (j+1)*span - 1 (channels of a Conv2d)."""

    layer: str
    span: int


@dataclass(frozen=True)
class Links:
    """The way of one layer's units: how many there are, the BatchNorms on the way, and the layers that read them."""

    layer: str
    units: int
    norms: tuple[Reader, ...]
    readers: tuple[Reader, ...]


def consumers(model: nn.Module, example_input: Tensor, layers: Iterable[str] | None = None) -> dict[str, Links]:
    """The links of the named layers, or of every Linear and Conv2d layer whose units a ReLU gates.

    `example_input` [n, C, H, W] gives the shapes. A layer that feeds the output has no entry.
    Raises UnsupportedGraph that names the layer and the operation where the units' way cannot be followed: a sum, a
    concatenation, a layer that is called twice, a norm over units, a model that torch.fx cannot trace.
    """
    traced = _trace(model, example_input)
    nodes = {str(node.target): node for node in traced.graph.nodes if _weighted(traced, node) is not None}
    names = [name for name, node in nodes.items() if _is_gated(traced, node)] if layers is None else list(layers)
    for name in names:
        if name not in nodes:
            raise UnsupportedGraph(
                f"layer {name!r} is no Linear or Conv2d that the model calls: name one of its layers"
            )
        if not _is_gated(traced, nodes[name]):
            raise UnsupportedGraph(f"layer {name!r} is gated by no ReLU: its units cannot be removed")
    return {name: _follow(traced, nodes[name]) for name in names}


def _trace(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    weight = next(model.parameters(), example_input)
    with evaluating(model), torch.no_grad():
        try:
            traced = fx.symbolic_trace(model)
            ShapeProp(traced).propagate(example_input.to(weight.device, weight_type(model)))
        except (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise UnsupportedGraph(
                f"model {type(model).__name__} cannot be traced by torch.fx ({error}): "
                f"write its forward without branches on tensor values"
            ) from error
    calls = Counter(
        node.target for node in traced.graph.nodes if isinstance(_module(traced, node), (*WEIGHTED, *NORMS))
    )
    for name, count in calls.items():
        if count > 1:
            raise UnsupportedGraph(f"layer {name!r} is called {count} times: shared layers cannot be pruned; use two")
    return traced


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _weighted(traced: fx.GraphModule, node: fx.Node) -> nn.Linear | nn.Conv2d | None:
    module = _module(traced, node)
    return module if isinstance(module, nn.Linear | nn.Conv2d) else None


def _is_gated(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all that the layer emits goes through a ReLU before anything else reads it."""
    while len(node.users) == 1:
        (node,) = node.users
        module = _module(traced, node)
        if isinstance(module, nn.ReLU) or node.target in RELUS:
            return True
        if not (isinstance(module, (*NORMS, *UNITWISE, nn.Flatten)) or node.target in (*UNITWISE_FUNCTIONS, *FLATTENS)):
            return False
    return False


def _follow(traced: fx.GraphModule, start: fx.Node) -> Links:
    layer, units = str(start.target), _shape(start)[1]
    _check_weights(traced, layer, layer)
    expected = 2 if isinstance(_weighted(traced, start), nn.Linear) else 4
    if len(_shape(start)) != expected:
        raise UnsupportedGraph(f"layer {layer!r} emits shape {_shape(start)}: its units must be axis 1 of {expected}")
    norms: list[Reader] = []
    readers: list[Reader] = []
    seen = {start}
    pending = [(start, 1)]
    while pending:
        source, span = pending.pop(0)
        for node in source.users:
            if node in seen or node.target in SHAPE_QUESTIONS or _asks_shape(node):
                continue
            seen.add(node)
            here = Reader(str(node.target), _span_at(traced, layer, source, node, span))
            if _weighted(traced, node) is not None:
                _check_weights(traced, layer, here.layer)
                readers.append(here)
                continue
            if isinstance(_module(traced, node), NORMS):
                norms.append(here)
            pending.append((node, here.span))
    return Links(layer, units, tuple(norms), tuple(readers))


def _check_weights(traced: fx.GraphModule, layer: str, touched: str) -> None:
    """Zeroing rows or columns is exact only where the weight is a parameter of this one layer."""
    weight = dict(traced.get_submodule(touched).named_parameters(recurse=False)).get("weight")
    names = [name for name, value in traced.named_parameters(remove_duplicate=False) if value is weight]
    if weight is None or len(names) > 1:
        how = "computed from other parameters" if weight is None else f"shared by {' and '.join(names)}"
        raise UnsupportedGraph(
            f"layer {layer!r}: the weight of {touched!r} is {how}, so its units cannot be cut; give it its own weight"
        )


def _span_at(traced: fx.GraphModule, layer: str, source: fx.Node, node: fx.Node, span: int) -> int:
    """How many neighbouring entries of axis 1 belong to one unit after `node`; refuses what mixes units."""
    module = _module(traced, node)
    if node.op == "output":
        raise UnsupportedGraph(f"layer {layer!r} reaches the model's output through {source.name!r}: nothing reads it")
    if isinstance(module, (nn.Conv2d, *NORMS, *UNITWISE)) or node.target in UNITWISE_FUNCTIONS:
        return span
    if isinstance(module, nn.Linear) and len(_shape(source)) == 2:
        return span
    if node.target in RELUS or (node.target in SCALINGS and len(node.all_input_nodes) == 1):
        return span
    if isinstance(module, nn.Flatten) or node.target in FLATTENS:
        before, after = _shape(source), _shape(node)
        if len(after) == 2 and after[0] == before[0]:
            return span * (after[1] // before[1])
    raise UnsupportedGraph(
        f"layer {layer!r}: its units cannot be followed through {node.name!r} ({_kind(module, node)}); "
        f"leave this layer out of the masks"
    )


def _asks_shape(node: fx.Node) -> bool:
    return node.target is getattr and len(node.args) > 1 and node.args[1] in ("shape", "ndim")


def _kind(module: nn.Module | None, node: fx.Node) -> str:
    if module is not None:
        return type(module).__name__
    return node.target.__name__ if node.op == "call_function" and callable(node.target) else str(node.target)


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    shape = getattr(meta, "shape", None)
    if shape is None:
        raise UnsupportedGraph(f"operation {node.name!r} returns more than one tensor: its units cannot be followed")
    return tuple(shape)
