"""Sums, concatenations and arithmetic with constants: what a call makes of its operands."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.parts import scaled
from formulation.lowering.rules import label, rule
from formulation.lowering.values import LoweringRule, Made, Value
from formulation.network import Index
from tracing import Op, TracedNode, ops

ARITHMETIC: Mapping[Op, Callable[..., Tensor]] = {
    ops.ADD: operator.add,
    ops.SUBTRACT: operator.sub,
    ops.MULTIPLY: operator.mul,
    ops.DIVIDE: operator.truediv,
}
PLAIN = {"alpha": 1, "rounding_mode": None}  # options that change nothing at these values


def is_lowered_sum(node: TracedNode) -> bool:
    """Whether the call adds two activations, each as it is."""
    return node.op is ops.ADD and not _options(node) and all(_is_live(each) for each in _operands(node))


def concatenated(node: TracedNode, read: Callable[[TracedNode], Value]) -> list[Value]:
    """The values that a call joins; raises UnsupportedLayer unless it joins activations along the channels."""
    where = label(node)
    if node.surplus:
        raise UnsupportedLayer(f"'{where}' takes {', '.join(node.surplus)}; without it the call can be lowered")
    tensors, dim = node.argument("tensors"), node.argument("dim")
    if not all(_is_live(each) for each in tensors):
        raise UnsupportedLayer(f"'{where}' joins activations with constants; only activations can be concatenated")
    values = [read(each) for each in tensors]
    if any(dim % (len(value.shape) + 1) != 1 for value in values):
        raise UnsupportedLayer(f"'{where}' concatenates along dimension {dim}; only channels (dim=1) can be lowered")
    return values


def stacked(node: TracedNode, read: Callable[[TracedNode], Value]) -> tuple[list[Value], list[Index], tuple[int, ...]]:
    """The values that torch.stack joins, where each goes, and the shape that this makes."""
    where = label(node)
    tensors, dim = node.argument("tensors"), node.argument("dim")
    if node.surplus or not isinstance(tensors, list | tuple) or not all(_is_live(each) for each in tensors):
        raise UnsupportedLayer(f"'{where}' stacks more than activations; only a list of activations can be stacked")
    values = [read(each) for each in tensors]
    shape = values[0].shape
    if any(value.shape != shape for value in values) or dim % (len(shape) + 2) == 0:
        raise UnsupportedLayer(f"'{where}' stacks along dimension {dim}; stack values of one shape behind the batch")
    size = int(np.prod(shape))
    numbers = [torch.arange(k * size, (k + 1) * size).reshape(1, *shape) for k in range(len(values))]
    made = torch.stack(numbers, dim)[0]
    places = np.empty(made.numel(), dtype=np.int64)
    places[made.reshape(-1).numpy()] = np.arange(made.numel())
    return values, list(places.reshape(len(values), -1)), tuple(made.shape)


@rule.register(ops.ADD)
@rule.register(ops.SUBTRACT)
@rule.register(ops.MULTIPLY)
@rule.register(ops.DIVIDE)
def _(node: TracedNode) -> LoweringRule:
    """x + c, x - c, x * c, x / c and c + x, c * x, c - x for constants c that do not depend on the input."""
    where, combine, operands = label(node), ARITHMETIC[node.op], _operands(node)
    if options := _options(node):
        raise UnsupportedLayer(f"'{where}' takes {', '.join(options)}; only plain arithmetic can be lowered")
    if all(_is_live(each) for each in operands):
        raise UnsupportedLayer(
            f"'{where}' combines two activations; only their sum, and arithmetic with constants, can be lowered"
        )
    if node.op is ops.DIVIDE and _is_live(operands[1]):
        raise UnsupportedLayer(f"'{where}' divides by an activation; it cannot be lowered")

    def step(source: Value) -> Made:
        def at(x: Tensor) -> NDArray[Any]:
            made = combine(*(x if _is_live(each) else each for each in operands))
            if tuple(made.shape[1:]) != source.shape:
                raise UnsupportedLayer(
                    f"'{where}' broadcasts {source.shape} to {tuple(made.shape[1:])}; it cannot be lowered"
                )
            flat: NDArray[Any] = made[0].reshape(-1).double().numpy()
            return flat

        shift = at(torch.zeros(1, *source.shape, dtype=torch.float64))
        if node.op in (ops.MULTIPLY, ops.DIVIDE):  # exact: no difference of large numbers
            return scaled(source, at(torch.ones(1, *source.shape, dtype=torch.float64)), shift)
        sign = -1.0 if node.op is ops.SUBTRACT and _is_live(operands[1]) else 1.0
        return scaled(source, shift * 0 + sign, shift)

    return step


def _operands(node: TracedNode) -> tuple[Any, Any]:
    return node.argument("input"), node.argument("other")


def _options(node: TracedNode) -> list[str]:
    """Names of arguments that make the call other than plain."""
    return [name for name, plain in PLAIN.items() if node.given.get(name, plain) != plain]


def _is_live(operand: Any) -> bool:
    return isinstance(operand, TracedNode)
