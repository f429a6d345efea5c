"""Interval bounds of every pre-activation over a box around each image.

    [l, u]  with  W h + b in [l, u]  for every h in the box:  centre W c + b, half-width |W| r

Two kinds, never mixed: *nominal* bounds hold for the unpruned network (an activation lies in [relu(l), relu(u)]);
*valid* bounds hold for every score in [0, 1] (an activation lies in [0, relu(u)]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from formulation.errors import InvalidBounds
from formulation.network import INPUT, Affine, Array, Network, Relu


@dataclass(frozen=True, eq=False)
class Box:
    """Lower and upper bound of a value, each [activations, images]."""

    lower: Array
    upper: Array

    def checked(self, name: str) -> Box:
        """Itself; raises InvalidBounds where it is not finite or inverted."""
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise InvalidBounds(f"bounds of '{name}' are not finite; look for extreme weights or pixels")
        worst = float(np.max(self.lower - self.upper, initial=0.0))
        if worst > 0:
            raise InvalidBounds(f"bounds of '{name}' are inverted by {worst:.3g}; the weights span too many magnitudes")
        return self


def input_box(pixels: Array, radius: float, pixel_range: tuple[float, float]) -> Box:
    """The box of half-width `radius` around pixels [inputs, images], clipped to their range before it is widened."""
    centre = np.clip(pixels, *pixel_range) if radius > 0 else pixels
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
        source = boxes[node.source]
        match node.op:
            case Affine():
                boxes[node.name] = _affine(node.op, source).checked(node.name)
            case Relu():
                upper = np.maximum(source.upper, 0.0)
                boxes[node.name] = Box(np.zeros_like(upper) if valid else np.maximum(source.lower, 0.0), upper)
            case _:
                assert_never(node.op)
    return boxes


def _affine(op: Affine, box: Box) -> Box:
    centre = op.apply((box.lower + box.upper) / 2)
    half = abs(op.weight) @ ((box.upper - box.lower) / 2)
    return Box(centre - half, centre + half)
