"""What each torch operation does to the units of a layer on their way through a traced model."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Pools keep units apart where axis 1 is the channels, so only on values of that many axes.
POOLS = {
    nn.AvgPool1d: 3,
    nn.MaxPool1d: 3,
    nn.AdaptiveAvgPool1d: 3,
    nn.AdaptiveMaxPool1d: 3,
    nn.AvgPool2d: 4,
    nn.MaxPool2d: 4,
    nn.AdaptiveAvgPool2d: 4,
    nn.AdaptiveMaxPool2d: 4,
}
POOL_FUNCTIONS: dict[Any, int] = {
    functional.avg_pool1d: 3,
    functional.max_pool1d: 3,
    functional.adaptive_avg_pool1d: 3,
    functional.adaptive_max_pool1d: 3,
    torch.max_pool1d: 3,
    functional.avg_pool2d: 4,
    functional.max_pool2d: 4,
    functional.adaptive_avg_pool2d: 4,
    functional.adaptive_max_pool2d: 4,
    torch.max_pool2d: 4,
}
UNITWISE = (nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
RELUS = (torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_")
UNITWISE_FUNCTIONS = (*RELUS, functional.dropout, functional.dropout1d, functional.dropout2d, "contiguous")
FACTORS = (operator.mul, operator.imul, torch.mul)
DIVISIONS = (operator.truediv, operator.itruediv, torch.div)
SUMS = (operator.add, operator.iadd, torch.add, "add")
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
MEANS = (torch.mean, "mean")
FLATTENS = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
WEIGHTED_FUNCTIONS = (functional.linear, functional.conv1d, functional.conv2d)
# Asking for a shape is no use of the units.
SHAPE_QUESTIONS = ("size", "dim")


def module_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def kind_of(traced: fx.GraphModule, node: fx.Node) -> str:
    module = module_of(traced, node)
    if module is not None:
        return type(module).__name__
    return node.target.__name__ if node.op == "call_function" and callable(node.target) else str(node.target)


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of what the node makes, None where that is not one tensor."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    return None if shape is None else tuple(shape)


def users(node: fx.Node) -> list[fx.Node]:
    """What uses the values of a node, not only its shape."""
    return [user for user in node.users if not asks_shape(user)]


def asks_shape(node: fx.Node) -> bool:
    asked = node.target is getattr and len(node.args) > 1 and node.args[1] in ("shape", "ndim")
    return asked or node.target in SHAPE_QUESTIONS


def is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(module_of(traced, node), nn.ReLU) or node.target in RELUS


def is_sum(node: fx.Node, live: set[fx.Node]) -> bool:
    """Whether the node adds activations, each as it is: 0 from one of them leaves the others'."""
    plain = len(node.args) == 2 and not node.kwargs and all(arg in live for arg in node.args)
    return node.target in SUMS and plain


def reads_as_image(node: fx.Node, source: fx.Node) -> bool:
    """Whether the node is F.linear or F.conv1d, F.conv2d of the source: no layer, so no column to cut."""
    return node.target in WEIGHTED_FUNCTIONS and source in (node.kwargs.get("input"), *node.args[:1])


def weighs(constant: fx.Node, live: set[fx.Node]) -> bool:
    """Whether a constant becomes the weights of F.linear, F.conv1d or F.conv2d."""
    return any(user.target in WEIGHTED_FUNCTIONS if user in live else weighs(user, live) for user in constant.users)


def live_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values depend on the images."""
    live: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or (live.intersection(node.all_input_nodes) and not asks_shape(node)):
            live.add(node)
    return live


def joined(node: fx.Node) -> Sequence[Any] | None:
    """The values that the node concatenates along axis 1; None where it is no such concatenation."""
    if node.target not in CONCATENATIONS:
        return None
    names = {"axis": "dim"}
    given = dict(zip(("tensors", "dim"), node.args, strict=False))
    given |= {names.get(name, name): value for name, value in node.kwargs.items()}
    parts, dim, shape = given.get("tensors"), given.get("dim", 0), shape_of(node)
    if not isinstance(parts, Sequence) or not isinstance(dim, int) or shape is None or dim % len(shape) != 1:
        return None
    return parts


def span_after(traced: fx.GraphModule, source: fx.Node, node: fx.Node, live: set[fx.Node]) -> int | None:
    """Into how many entries of axis 1 the node puts each of the source's, where it keeps them apart and 0 at 0."""
    module, target = module_of(traced, node), node.target
    before, after = shape_of(source), shape_of(node)
    if before is None or after is None:
        return None
    axes = next((axes for kind, axes in POOLS.items() if isinstance(module, kind)), POOL_FUNCTIONS.get(target))
    if axes is not None:
        return 1 if len(before) == axes else None
    if isinstance(module, (*NORMS, *UNITWISE)) or target in UNITWISE_FUNCTIONS:
        return 1
    if target in (*FACTORS, *DIVISIONS):
        alone = before == after and sum(arg in live for arg in node.args) == 1
        return 1 if alone and (target in FACTORS or node.args[0] is source) else None
    if target in SUMS:
        return 1 if any(isinstance(arg, int | float) and arg == 0 for arg in node.args) else None  # as sum() starts
    if target in MEANS:
        return 1 if _means_behind_channels(node, len(before)) else None
    if isinstance(module, nn.Flatten) or target in FLATTENS:
        if after[:2] == before[:2]:
            return 1
        return after[1] // before[1] if len(after) == 2 and after[0] == before[0] else None
    return None


def _means_behind_channels(node: fx.Node, axes: int) -> bool:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    each = [dims] if isinstance(dims, int) else dims
    return isinstance(each, Sequence) and len(each) > 0 and all(d % axes > 1 for d in each if isinstance(d, int))
