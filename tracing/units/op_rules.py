"""Op rules: how each op of a traced graph moves the units of a layer on their way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tracing import ops
from tracing.graph import Graph, TracedNode
from tracing.recomputing import recomputed, tried

WINDOWED = (ops.MAX_POOL, ops.AVERAGE_POOL, ops.ADAPTIVE_MAX_POOL, ops.ADAPTIVE_AVERAGE_POOL)
REDUCTIONS = (ops.MEAN, ops.SUM, ops.LARGEST)
# What may lay units out otherwise than in order along axis 1: there their way ends, and each keeps its own place.
SCATTERING = (
    *(ops.MOVE, ops.SELECT, ops.PARTS, ops.STACK, ops.CONCATENATE, ops.FLATTEN, ops.RESHAPE, ops.RESIZE),
    *(ops.TRANSPOSED_CONVOLUTION, *REDUCTIONS),
)
# What may make something else of 0, by constants of its own.
SHIFTING = (
    *(ops.ADD, ops.SUBTRACT, ops.MULTIPLY, ops.DIVIDE, ops.NORMALIZE, ops.BATCH_NORM),
    *(ops.CLAMP, ops.CLAMP_BELOW, ops.HARDTANH),
)


def is_weighted(node: TracedNode) -> bool:
    """Whether the node calls a Linear or convolution layer."""
    return node.layer is not None and node.op in (ops.LINEAR, ops.CONVOLUTION)


def is_norm(node: TracedNode) -> bool:
    """Whether the node calls a BatchNorm layer."""
    return node.layer is not None and node.op is ops.BATCH_NORM


def is_relu(node: TracedNode) -> bool:
    """Whether the node is a ReLU, whatever spells it."""
    return node.op is ops.RELU


def is_depthwise(node: TracedNode) -> bool:
    """Whether the node calls a convolution layer that makes each channel of one channel alone."""
    groups = getattr(node.layer, "groups", 1)
    return is_weighted(node) and groups > 1 and groups == getattr(node.layer, "in_channels", None)


def is_sum(node: TracedNode) -> bool:
    """Whether the node adds activations, each as it is: 0 from one of them leaves the others'."""
    if node.op is not ops.ADD or node.surplus or node.argument("alpha") != 1:
        return False
    return all(isinstance(node.argument(name), TracedNode) for name in ("input", "other"))


def is_shift(source: TracedNode, node: TracedNode) -> bool:
    """Whether the node makes something else of the source's 0: the values that it adds stay where units are gone.

    Args:
        source: the value that units lie in.
        node: a call that reads it.
    """
    if node.op not in SHIFTING or node.live_sources != (source,):
        return False
    if "other" in node.op.parameters and not _is_once(node, source):
        return False
    divided = node.op is ops.DIVIDE and node.argument("input") is not source
    return not divided and span_after(source, node) is None


def scatters(source: TracedNode, node: TracedNode) -> bool:
    """Whether the node takes the source's entries elsewhere than side by side along axis 1, or several as one.

    Args:
        source: the value that units lie in.
        node: a call that reads it.
    """
    if node.op in (ops.ADD, ops.SUBTRACT):
        return len(node.live_sources) == 2 and not is_sum(node)
    return node.op in SCATTERING and joined(node) is None and span_after(source, node) is None


def is_product(node: TracedNode) -> bool:
    """Whether the node multiplies activations that have as many entries on axis 1, each as it is."""
    if node.op is not ops.MULTIPLY or node.surplus:
        return False
    shapes = [each.shape for each in operands(node) if each.live and each.shape is not None]
    if len(shapes) != 2 or any(len(shape) < 2 for shape in shapes):
        return False
    one, other = shapes
    return len(one) == len(other) and one[:2] == other[:2]


def operands(node: TracedNode) -> tuple[TracedNode, ...]:
    """Those of the two operands of a sum or a product that are nodes."""
    given = (node.argument(name) for name in ("input", "other"))
    return tuple(each for each in given if isinstance(each, TracedNode))


def keeps_apart(source: TracedNode, node: TracedNode) -> bool:
    """Whether the node leaves each of the source's entries of axis 1 in its place, whatever becomes of 0."""
    if is_weighted(node) or node.live_sources != (source,):
        return False
    return span_after(source, node) == 1 or (source.shape == node.shape and tried(node, 1) is not None)


def reads_as_image(node: TracedNode, source: TracedNode) -> bool:
    """Whether the node is F.linear or F.conv1d, F.conv2d of the source: no layer, so no column to cut."""
    return _is_weighted_function(node) and node.argument("input") is source


def weighs(graph: Graph, constant: TracedNode) -> bool:
    """Whether a constant becomes the weights of F.linear, F.conv1d or F.conv2d."""
    return any(_is_weighted_function(user) if user.live else weighs(graph, user) for user in graph.users[constant])


def _is_weighted_function(node: TracedNode) -> bool:
    return node.layer is None and node.op in (ops.LINEAR, ops.CONVOLUTION)


def joined(node: TracedNode) -> Sequence[TracedNode | Tensor] | None:
    """The values that the node concatenates along axis 1; None where it is no such concatenation."""
    if node.op is not ops.CONCATENATE:
        return None
    parts, dim = node.argument("tensors"), node.argument("dim")
    if not isinstance(parts, Sequence) or not isinstance(dim, int) or node.shape is None or dim % len(node.shape) != 1:
        return None
    return parts


def span_after(source: TracedNode, node: TracedNode) -> int | None:
    """Into how many entries of axis 1 the node puts each of the source's, where it keeps them apart and 0 at 0."""
    before, after = source.shape, node.shape
    if before is None or after is None:
        return None
    if node.op is ops.UNKNOWN:
        trial = tried(node, 1, reshapes=True)
        return 1 if trial is not None and trial.keeps_zero else None
    if node.op in WINDOWED:
        # Pools keep units apart where axis 1 is the channels, so only on values of that many axes.
        return 1 if len(before) == node.axes + 2 else None
    if node.op.unitwise or is_norm(node):
        return 1
    if node.op in (ops.MULTIPLY, ops.DIVIDE):
        alone = before == after and node.live_sources == (source,) and _is_once(node, source)
        return 1 if alone and (node.op is ops.MULTIPLY or node.argument("input") is source) else None
    if node.op is ops.ADD:
        return 1 if any(_is_zero(node.argument(name)) for name in ("input", "other")) else None  # as sum() starts
    if node.op in (ops.HARDTANH, ops.CLAMP, ops.CLAMP_BELOW):
        names = ("min_val", "max_val") if node.op is ops.HARDTANH else ("min", "max")
        ends = [node.argument(name) for name in names]
        low, high = (0 if end is None else end for end in ends)
        return 1 if isinstance(low, int | float) and isinstance(high, int | float) and low <= 0 <= high else None
    if node.op in (ops.MOVE, ops.SELECT):
        return _span_moved(source, node)
    if node.op is ops.RESIZE:
        return 1 if len(before) == len(after) and before[:2] == after[:2] else None
    if node.op in REDUCTIONS:
        return 1 if _means_behind_channels(node, len(before)) else None
    if node.op in (ops.FLATTEN, ops.RESHAPE):
        if after[:2] == before[:2]:
            return 1
        return after[1] // before[1] if len(after) == 2 and after[0] == before[0] else None
    return None


def _span_moved(source: TracedNode, node: TracedNode) -> int | None:
    """The span of a call that only moves values, found by running it on the numbers of axis 1."""
    before, after = source.shape, node.shape
    if before is None or after is None or len(before) < 2 or len(after) < 2 or node.live_sources != (source,):
        return None
    width, wide = before[1], after[1]
    if width == 0 or wide % width or source.op is ops.PARTS:
        return None
    numbers = torch.arange(1.0, width + 1, dtype=torch.float64).reshape(1, -1, *(1,) * (len(before) - 2))
    made = recomputed(node, numbers.expand(before).clone())
    nothing = recomputed(node, torch.zeros(before, dtype=torch.float64))
    wanted = torch.arange(1.0, width + 1, dtype=torch.float64).repeat_interleave(wide // width)
    wanted = wanted.reshape(1, -1, *(1,) * (len(after) - 2))
    # 0 is what a call puts around the values.
    kept = made.shape == after and bool(((made == wanted) | (made == 0)).all()) and not bool(nothing.any())
    return wide // width if kept else None


def _is_once(node: TracedNode, source: TracedNode) -> bool:
    """Whether one operand alone is the source, not both."""
    return (node.argument("input") is source) != (node.argument("other") is source)


def _is_zero(operand: Any) -> bool:
    return isinstance(operand, int | float) and operand == 0


def _means_behind_channels(node: TracedNode, axes: int) -> bool:
    dims = node.argument("dim")
    each = [dims] if isinstance(dims, int) else dims
    return isinstance(each, Sequence) and len(each) > 0 and all(d % axes > 1 for d in each if isinstance(d, int))
