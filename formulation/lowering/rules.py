"""Lowering rules: one per op of the traced graph, whether a layer or a function spells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.maps.convolutions import Kernel, bias, convolved, convolved_around, dense, transposed
from formulation.lowering.maps.pools import (
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    largest,
    max_pool,
    mean,
    total,
)
from formulation.lowering.maps.resizing import resized
from formulation.lowering.maps.trials import found_affine
from formulation.lowering.parts import (
    bent,
    between,
    channels_scaled,
    flattened,
    makes_several,
    moved,
    normalised,
    relu,
    scaled,
    viewed,
)
from formulation.lowering.values import LoweringRule, Made, Value
from tracing import Op, TracedNode, ops, recomputed

RuleOf: TypeAlias = Callable[[TracedNode], LoweringRule]

TRANSPOSED = "it is a transposed convolution: its units are not scored, those that it reads are"
UNNAMED = "it calls a function with weights, so it has no layer to prune; use the torch.nn layer"
UNREAD = (ops.IDENTITY, ops.CAST, ops.MOVE, ops.RESIZE, ops.PARTS, ops.SELECT)  # their rules read no argument
WINDOW = ("kernel_size", "stride", "padding")


def label(node: TracedNode) -> str:
    """The call in a message: a layer by its qualified name, a function by the node's name and its own."""
    return node.target or f"{node.name} ({node.kind})"


class Rules:
    """The rule of each op; open by `register`."""

    def __init__(self) -> None:
        self.by_op: dict[Op, RuleOf] = {}

    def register(self, op: Op) -> Callable[[RuleOf], RuleOf]:
        """Decorates the function that makes the rule of a call of this op, from its node in the traced graph."""

        def add(made: RuleOf) -> RuleOf:
            self.by_op[op] = made
            return made

        return add

    def __call__(self, node: TracedNode) -> LoweringRule:
        """The rule of a call; raises UnsupportedLayer where its op has none or it has arguments of its own."""
        made = self.by_op.get(node.op)
        if made is None and node.op is ops.UNKNOWN and len(node.live_sources) == 1:
            return found_affine(lambda images: recomputed(node, images), _unsupported(node))
        if made is None:
            raise _unsupported(node)
        if node.surplus and node.op not in UNREAD:
            raise UnsupportedLayer(
                f"'{label(node)}' takes {', '.join(node.surplus)}; without it the call can be lowered"
            )
        return made(node)


rule = Rules()


def _unsupported(node: TracedNode) -> UnsupportedLayer:
    if node.layer is None:
        return UnsupportedLayer(
            f"'{label(node)}' cannot be lowered exactly; use a torch.nn layer or functional form that is affine, a "
            "ReLU, a max-pool or a sum"
        )
    return UnsupportedLayer(
        f"'{node.target}' ({node.kind}) cannot be lowered exactly; use Linear, Conv1d, Conv2d, BatchNorm, ReLU, max "
        "and average pools, Flatten, Dropout or Identity, or say with tracing.register which op it computes and "
        "register a rule of that op with formulation.lowering.rule"
    )


@rule.register(ops.LINEAR)
def _(node: TracedNode) -> LoweringRule:
    name, weight, offset = _weights(node)
    return lambda source: dense(source, weight, offset, name, "" if node.layer else UNNAMED)


@rule.register(ops.CONVOLUTION)
def _(node: TracedNode) -> LoweringRule:
    name, weight, offset = _weights(node)
    if weight.ndim != node.axes + 2:
        raise UnsupportedLayer(f"'{name}' has weights of shape {tuple(weight.shape)}; check the convolution's kind")
    slide = [node.argument(each) for each in ("stride", "padding", "dilation", "groups")]
    kernel = Kernel(weight.numpy(), bias(offset, len(weight)), *slide)
    if (mode := node.argument("padding_mode")) != "zeros":
        return lambda source: convolved_around(source, kernel, mode, name)
    return lambda source: convolved(source, kernel, name, "" if node.layer else UNNAMED)


@rule.register(ops.TRANSPOSED_CONVOLUTION)
def _(node: TracedNode) -> LoweringRule:
    name, weight, offset = _weights(node)
    groups = node.argument("groups")
    slide = [node.argument(each) for each in ("stride", "padding", "dilation", "groups")]
    kernel = Kernel(weight.numpy(), bias(offset, weight.shape[1] * groups), *slide)
    sides = () if node.shape is None else node.shape[2:]
    return lambda source: transposed(source, kernel, sides, name, TRANSPOSED if node.layer else UNNAMED)


def _weights(node: TracedNode) -> tuple[str, Tensor, Tensor | None]:
    """Name, weight and bias of a call. Units of a function with weights can be named by no layer."""
    name = node.target or node.name
    held = node if node.layer is None else node.layer  # a layer may be called with more than an image
    weight, offset = (held.argument(n) if held is node else getattr(held, n) for n in ("weight", "bias"))
    image = node.argument("input")
    if not isinstance(image, TracedNode) or not isinstance(weight, Tensor) or isinstance(offset, TracedNode):
        raise UnsupportedLayer(f"'{name}' computes its weights from activations; it cannot be lowered exactly")
    return name, weight.detach(), offset


@rule.register(ops.BATCH_NORM)
def _(node: TracedNode) -> LoweringRule:
    running_mean, running_var = node.argument("running_mean"), node.argument("running_var")
    if running_mean is None or running_var is None:
        raise UnsupportedLayer(f"'{label(node)}' ({node.kind}) keeps no running statistics; it depends on the batch")
    scale = (1 / torch.sqrt(running_var + node.argument("eps"))).numpy()
    if node.argument("weight") is not None:
        scale = scale * node.argument("weight").detach().numpy()
    shift = bias(node.argument("bias"), len(scale)) - running_mean.numpy() * scale
    dims = {2: (3,), 1: (1, 2)}.get(node.axes, (1, 2, 3))
    return lambda source: normalised(source, scale, shift, dims, label(node))


@rule.register(ops.RELU)
def _(node: TracedNode) -> LoweringRule:
    return relu


@rule.register(ops.LEAKY_RELU)
@rule.register(ops.PRELU)
def _(node: TracedNode) -> LoweringRule:
    slope = node.argument("negative_slope" if node.op is ops.LEAKY_RELU else "weight")
    if isinstance(slope, TracedNode):
        raise UnsupportedLayer(f"'{label(node)}' computes its slope from activations; it cannot be lowered exactly")
    below = slope.detach().double().numpy() if isinstance(slope, Tensor) else np.array([float(slope)])
    return lambda source: bent(source, slope=below, kinks=[(0.0, 1.0 - below)])


@rule.register(ops.RELU6)
def _(node: TracedNode) -> LoweringRule:
    return lambda source: between(source, 0.0, 6.0)


@rule.register(ops.HARDTANH)
@rule.register(ops.CLAMP)
@rule.register(ops.CLAMP_BELOW)
def _(node: TracedNode) -> LoweringRule:
    low, high = _arguments(node, *(("min_val", "max_val") if node.op is ops.HARDTANH else ("min", "max")))
    if any(not isinstance(each, int | float | None) for each in (low, high)) or (low is None and high is None):
        raise UnsupportedLayer(f"'{label(node)}' clamps to tensors; give numbers")
    if low is not None and high is not None and low > high:
        raise UnsupportedLayer(f"'{label(node)}' clamps to [{low}, {high}], which is empty; swap the ends")
    return lambda source: between(source, low, high)


@rule.register(ops.MAX_POOL)
def _(node: TracedNode) -> LoweringRule:
    return max_pool(node.axes, label(node), *_arguments(node, *WINDOW, "dilation", "ceil_mode", "return_indices"))


@rule.register(ops.AVERAGE_POOL)
def _(node: TracedNode) -> LoweringRule:
    names = (*WINDOW, "ceil_mode", "count_include_pad", "divisor_override")
    return average_pool(node.axes, label(node), *_arguments(node, *names))


@rule.register(ops.ADAPTIVE_MAX_POOL)
def _(node: TracedNode) -> LoweringRule:
    return adaptive_max_pool(node.axes, label(node), *_arguments(node, "output_size", "return_indices"))


@rule.register(ops.ADAPTIVE_AVERAGE_POOL)
def _(node: TracedNode) -> LoweringRule:
    return adaptive_average_pool(node.axes, label(node), node.argument("output_size"))


@rule.register(ops.MEAN)
def _(node: TracedNode) -> LoweringRule:
    return mean(label(node), *_arguments(node, "dim", "keepdim"))


@rule.register(ops.SUM)
def _(node: TracedNode) -> LoweringRule:
    return total(label(node), *_arguments(node, "dim", "keepdim"))


@rule.register(ops.LARGEST)
def _(node: TracedNode) -> LoweringRule:
    return largest(label(node), *_arguments(node, "dim", "keepdim"))


@rule.register(ops.FLATTEN)
def _(node: TracedNode) -> LoweringRule:
    start, end = _arguments(node, "start_dim", "end_dim")
    return lambda source: flattened(source, start, end, label(node))


@rule.register(ops.RESHAPE)
def _(node: TracedNode) -> LoweringRule:
    return lambda source: viewed(source, tuple(node.argument("shape")), label(node))


@rule.register(ops.MOVE)
@rule.register(ops.SELECT)
def _(node: TracedNode) -> LoweringRule:
    if makes_several(node):
        return lambda source: source
    return moved(node, label(node))


@rule.register(ops.RESIZE)
def _(node: TracedNode) -> LoweringRule:
    """Where the call only moves values, as 'nearest' does, each keeps its unit, whatever the units."""

    def step(source: Value) -> Made | Value:
        try:
            return moved(node, label(node))(source)
        except UnsupportedLayer:
            return resized(lambda images: recomputed(node, images), label(node))(source)

    return step


@rule.register(ops.NORMALIZE)
def _(node: TracedNode) -> LoweringRule:
    mean, std = (np.asarray(each, dtype=np.float64).reshape(-1) for each in _arguments(node, "mean", "std"))
    return lambda source: channels_scaled(source, 1 / std, -mean / std, label(node))


@rule.register(ops.NEGATE)
def _(node: TracedNode) -> LoweringRule:
    return lambda source: scaled(source, np.full(len(source.unit), -1.0), np.zeros(len(source.unit)))


@rule.register(ops.DROPOUT)
@rule.register(ops.ALPHA_DROPOUT)
def _(node: TracedNode) -> LoweringRule:
    if node.argument("training"):
        raise UnsupportedLayer(f"'{label(node)}' drops activations also in eval mode; pass training=self.training")
    return lambda source: source


@rule.register(ops.IDENTITY)
@rule.register(ops.CAST)
@rule.register(ops.PARTS)  # whoever takes one of the parts says which values these are
def _(node: TracedNode) -> LoweringRule:
    return lambda source: source


def _arguments(node: TracedNode, *names: str) -> list[Any]:
    return [node.argument(name) for name in names]
