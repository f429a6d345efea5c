"""Sums, concatenations and arithmetic with constants: what a call makes of its operands."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.parts import scaled, selection
from formulation.lowering.rules import label, rule
from formulation.lowering.values import Joined, LoweringRule, Made, Value
from formulation.network import Affine
from tracing import Op, TracedNode, ops

SUMS = (ops.ADD, ops.SUBTRACT)
PRODUCTS: Mapping[Op, Callable[..., Tensor]] = {ops.MULTIPLY: operator.mul, ops.DIVIDE: operator.truediv}


def is_lowered_sum(node: TracedNode) -> bool:
    """Whether the call adds multiples of two activations."""
    alpha = node.given.get("alpha", 1)
    plain = node.op in SUMS and not node.surplus and isinstance(alpha, int | float)
    return plain and all(_is_live(each) for each in _operands(node))


def factor_of_second(node: TracedNode) -> float:
    """What a sum, or a difference, multiplies its second operand by."""
    return float(node.argument("alpha")) * (-1.0 if node.op is ops.SUBTRACT else 1.0)


def broadcast(source: Value, shape: tuple[int, ...]) -> Made | Value:
    """The value repeated along axes, as torch repeats the operand of a sum."""
    if source.shape == shape:
        return source
    numbers = np.arange(len(source.unit)).reshape(source.shape)
    positions = np.broadcast_to(numbers, shape).reshape(-1)
    return Made(Affine(selection(positions, len(source.unit)), np.zeros(len(positions))), shape, positions)


def side_by_side(node: TracedNode, items: Sequence[Value | Tensor]) -> Joined:
    """What torch.cat and torch.stack make of activations, and of tensors that do not depend on the images.

    Raises UnsupportedLayer where the call joins images.
    """
    where = label(node)
    if node.surplus:
        raise UnsupportedLayer(f"'{where}' takes {', '.join(node.surplus)}; without it the call can be lowered")
    join, dim = torch.stack if node.op is ops.STACK else torch.cat, node.argument("dim")
    values = [each for each in items if isinstance(each, Value)]
    numbers, constants, count = [], [], 0
    for each in items:
        shape = (1, *each.shape) if isinstance(each, Value) else tuple(each.shape)
        size = int(np.prod(shape)) if isinstance(each, Value) else 0
        lying = torch.arange(count, count + size).reshape(shape) if size else torch.full(shape, -1)
        numbers.append(lying)
        constants.append(torch.zeros(shape, dtype=torch.float64) if isinstance(each, Value) else each.double())
        count += size
    if dim % (numbers[0].ndim + (node.op is ops.STACK)) == 0:
        raise UnsupportedLayer(f"'{where}' joins along dimension {dim}, which is that of the images; use another one")
    made = join(numbers, dim)[0]
    flat = made.reshape(-1).numpy()
    places = np.empty(count, dtype=np.int64)
    (filled,) = np.nonzero(flat >= 0)
    places[flat[filled]] = filled
    ends = np.cumsum([len(value.unit) for value in values])[:-1]
    held = join(constants, dim)[0].reshape(-1).numpy()
    return Joined(values, np.split(places, ends), tuple(made.shape), held)


@rule.register(ops.ADD)
@rule.register(ops.SUBTRACT)
@rule.register(ops.MULTIPLY)
@rule.register(ops.DIVIDE)
def _(node: TracedNode) -> LoweringRule:
    """x + c, x - c, x * c, x / c and c + x, c * x, c - x for constants c that do not depend on the input."""
    where, operands = label(node), _operands(node)
    factor = factor_of_second(node) if node.op in SUMS else 1.0
    combine = (lambda x, y: x + factor * y) if node.op in SUMS else PRODUCTS[node.op]
    if node.given.get("rounding_mode") is not None:
        raise UnsupportedLayer(f"'{where}' rounds (rounding_mode); it cannot be lowered")
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
        if node.op in PRODUCTS:  # exact: no difference of large numbers
            return scaled(source, at(torch.ones(1, *source.shape, dtype=torch.float64)), shift)
        return scaled(source, np.full(shift.shape, factor if _is_live(operands[1]) else 1.0), shift)

    return step


def _operands(node: TracedNode) -> tuple[Any, Any]:
    return node.argument("input"), node.argument("other")


def _is_live(operand: Any) -> bool:
    return isinstance(operand, TracedNode)
