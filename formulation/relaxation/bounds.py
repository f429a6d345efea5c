"""Interval bounds of every pre-activation over a box around each image.

    [l, u]  with  W h + b in [l, u]  for every h in the box:  W+ l - W- u + b  and  W+ u - W- l + b

A max-pool takes the largest lower and the largest upper bound of its window, a sum adds boxes.

Two kinds, never mixed: *nominal* bounds hold for the unpruned network (an activation lies in [relu(l), relu(u)]);
*valid* bounds hold for every score in [0, 1] (an activation that a score acts on lies in [0, relu(u)], a constant a
behind a gate anywhere in [min(0, a), max(0, a)], what a channel gate hands on in [min(0, l), max(0, u)]).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from formulation.errors import InvalidBounds
from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    Matrix,
    MaxPool,
    Network,
    Relu,
    Shift,
    not_lowered,
)

EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Box:
    """Lower and upper bound of a value, each [activations, images]."""

    lower: Array
    upper: Array

    @staticmethod
    def at(point: Array) -> Box:
        """The box of a point alone."""
        return Box(point, point)

    @property
    def is_point(self) -> bool:
        """Whether both bounds are one array, which is then computed once."""
        return self.lower is self.upper

    def checked(self, name: str) -> Box:
        """Itself; raises InvalidBounds where it is not finite or inverted."""
        if not (np.isfinite(self.lower).all() and (self.is_point or np.isfinite(self.upper).all())):
            raise InvalidBounds(f"bounds of '{name}' are not finite; look for extreme weights or pixels")
        if self.is_point:
            return self
        worst = float(np.max(self.lower - self.upper, initial=0.0))
        if worst > 0:
            raise InvalidBounds(f"bounds of '{name}' are inverted by {worst:.3g}; the weights span too many magnitudes")
        return self


def input_box(pixels: Array, radius: float, pixel_range: tuple[float, float]) -> Box:
    """The box around each image's pixels, clipped to their range before it is widened.

    Args:
        pixels: [inputs, images].
        radius: half of the box's width, in pixel units; at 0 nothing is clipped.
        pixel_range: the least and the largest value of a pixel.
    """
    if radius == 0:
        return Box.at(pixels)
    centre = np.clip(pixels, *pixel_range)
    return Box(centre - radius, centre + radius)


def propagate(network: Network, box: Box, *, valid: bool) -> Mapping[str, Box]:
    """Bounds of every node's value over the input box.

    Args:
        network: the lowered network.
        box: bounds of the pixels, [inputs, images].
        valid: hold for every score in [0, 1] (`exact`), not only for the unpruned network.

    Raises:
        InvalidBounds: bounds that overflow or invert.
    """
    boxes = {INPUT: box.checked(INPUT)}
    for node in network.nodes:
        sources = [boxes[name] for name in node.sources]
        match node.op:
            case Affine():
                made = _affine(node.op, *sources)
            case Relu():
                made = _relu(node.op, *sources, valid=valid)
            case MaxPool():
                made = _by_bound(node.op.apply, sources)
            case Add():
                made = _by_bound(lambda *bounds: np.sum(bounds, axis=0), sources)
            case ChannelGate(score):
                made = _handed_on(score, *sources, valid=valid)
            case Shift():
                made = _shift(node.op, *sources, valid=valid)
            case Differentiable():
                raise not_lowered("a bound")
            case _:
                assert_never(node.op)
        boxes[node.name] = made.checked(node.name)
    return boxes


def _by_bound(increasing: Callable[..., Array], boxes: Sequence[Box]) -> Box:
    """The box of an increasing function of values in boxes."""
    least = increasing(*(box.lower for box in boxes))
    return Box(least, least if all(box.is_point for box in boxes) else increasing(*(box.upper for box in boxes)))


def _affine(op: Affine, box: Box) -> Box:
    """[W+ l - W- u + b, W+ u - W- l + b], widened by what its sums round, W+ and W- the parts of W by sign.

    Where nothing varies the value itself; where every term is 0 exactly 0, so that no phase is left open for nothing.
    """
    low, high = box.lower, box.upper
    if box.is_point or np.array_equal(low, high):
        return Box.at(op.apply(low))
    plus, minus = _by_sign(op.weight)
    terms = op.weight.shape[1] if isinstance(op.weight, np.ndarray) else int(np.diff(op.weight.indptr).max(initial=0))
    rounding = (terms + 4) * EPSILON  # a sum of k products is off by at most about k eps of their absolute sum
    offset = op.bias[:, None]
    least, most, taken_most, taken_least = plus @ low, plus @ high, minus @ high, minus @ low
    lower, upper = least - taken_most + offset, most - taken_least + offset
    if (low >= 0).all():
        below, above = least + taken_most, most + taken_least
    else:
        below, above = plus @ abs(low) + minus @ abs(high), plus @ abs(high) + minus @ abs(low)
    made = Box(lower - rounding * (below + abs(offset)), upper + rounding * (above + abs(offset)))
    fixed = (least == most) & (taken_least == taken_most)
    if fixed.any():
        fixed &= abs(op.weight) @ (high - low) == 0
        value = op.apply(low)
        made = Box(np.where(fixed, value, made.lower), np.where(fixed, value, made.upper))
    return made


def _by_sign(weight: Matrix) -> tuple[Matrix, Matrix]:
    """W+ and W-, both >= 0, with W = W+ - W-."""
    if isinstance(weight, np.ndarray):
        return np.maximum(weight, 0.0), np.maximum(-weight, 0.0)
    return weight.maximum(0), (-weight).maximum(0)


def _relu(op: Relu, box: Box, *, valid: bool) -> Box:
    made = _by_bound(lambda bound: np.maximum(bound, 0.0), [box])
    return Box(np.where((op.score >= 0)[:, None], 0.0, made.lower), made.upper) if valid else made


def _handed_on(score: Index, box: Box, *, valid: bool) -> Box:
    if not valid:
        return box
    acted = (score >= 0)[:, None]
    lower = np.where(acted, np.minimum(box.lower, 0.0), box.lower)
    return Box(lower, np.where(acted, np.maximum(box.upper, 0.0), box.upper))


def _shift(op: Shift, box: Box, *, valid: bool) -> Box:
    amount = op.amount[:, None]
    if not valid:
        return _by_bound(lambda bound: bound + amount, [box])
    always = (op.score < 0)[:, None]
    low = np.where(always, amount, np.minimum(amount, 0.0))
    return Box(box.lower + low, box.upper + np.where(always, amount, np.maximum(amount, 0.0)))
