"""Places of units in a value, and where one call of a traced graph moves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formulation.network import NO_UNIT, Index
from tracing import TracedNode, ops, recomputed, tried
from tracing.units import is_shift, scatters

IMAGES = 2  # of the example that the graph was traced on
POOLS = (ops.MAX_POOL, ops.AVERAGE_POOL, ops.ADAPTIVE_MAX_POOL, ops.ADAPTIVE_AVERAGE_POOL)
MOVES = (ops.MOVE, ops.SELECT, ops.FLATTEN, ops.RESHAPE)
CLAMPS = (ops.HARDTANH, ops.CLAMP)
SCALINGS = (ops.ADD, ops.SUBTRACT, ops.MULTIPLY, ops.DIVIDE, ops.NORMALIZE)
CLIPS = (ops.RELU6, *CLAMPS)
BENDS = (ops.RELU, ops.LEAKY_RELU, ops.PRELU, *CLIPS)
# Norms over several units: what a unit becomes behind them is still its own, though others move it too.
MIXED_NORMS = ("GroupNorm", "group_norm", "LayerNorm", "layer_norm", "InstanceNorm1d", "InstanceNorm2d")
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class UnitLayout:
    """How units lie in a value.

    Attributes:
        axis: along which they lie, counted from the batch, which is 0.
        unit: of each entry of that axis, numbered over all layers; NO_UNIT for none.
        acted: whether the entry lies behind an activation function.
    """

    axis: int
    unit: Index
    acted: NDArray[np.bool_]

    def behind_an_activation(self) -> UnitLayout:
        return replace(self, acted=np.ones_like(self.acted))

    @property
    def units(self) -> set[int]:
        """All that lie there."""
        return {int(each) for each in self.unit if each != NO_UNIT}

    def same_places(self, other: UnitLayout | None) -> bool:
        return other is not None and other.axis == self.axis and np.array_equal(other.unit, self.unit)


def lying_after(node: TracedNode, source: TracedNode, lying: UnitLayout) -> UnitLayout | None:
    """How the units that lie so in the one live source lie behind the call; None where it mixes them.

    What the op table does not know is tried: units are kept apart where a change of half of them leaves the others'
    results as they were, to the last bit.
    """
    before, after = source.shape, node.shape
    if before is None or after is None or len(after) < 2 or after[0] != IMAGES:
        return None
    if lying.axis == 1 and lying.acted.all() and (is_shift(source, node) or scatters(source, node)):
        return None  # a removed unit hands on 0 there, whatever becomes of it
    if before == after:
        if (node.op.unitwise or node.op in (*CLAMPS, *SCALINGS)) and node.op is not ops.UNKNOWN:
            if node.op in CLIPS and lying.acted.any():
                return None  # as in a lowered network the gate stands before a second one that clips
            squared = node.op is ops.MULTIPLY and node.argument("input") is node.argument("other")
            return lying.behind_an_activation() if squared or node.op in BENDS else lying
        if node.op is ops.BATCH_NORM:
            return lying if lying.axis == 1 else None
        if node.kind in MIXED_NORMS:
            return None if lying.acted.any() else lying
    if node.op in POOLS:
        return lying if lying.axis == 1 and len(before) == len(after) == node.axes + 2 else None
    if node.op is ops.MEAN:
        return _averaged(node, lying, len(before))
    if node.op in MOVES:
        return _moved(node, source, lying)
    trial = tried(node, lying.axis, reshapes=True) if node.op is ops.UNKNOWN else None
    if trial is None:
        return None
    return lying.behind_an_activation() if trial.bends else lying


def _averaged(node: TracedNode, lying: UnitLayout, axes: int) -> UnitLayout | None:
    dims = node.argument("dim")
    each = [dims] if isinstance(dims, int) else dims
    if not isinstance(each, Sequence) or not each or node.surplus:
        return None
    gone = {d % axes for d in each}
    if 0 in gone or lying.axis in gone:
        return None
    return lying if node.argument("keepdim") else replace(lying, axis=lying.axis - sum(d < lying.axis for d in gone))


def _moved(node: TracedNode, source: TracedNode, lying: UnitLayout) -> UnitLayout | None:
    """Behind a call that only moves values, found by running it on the numbers of the entries; 0 is what it adds."""
    before = source.shape
    assert before is not None, "units lie in tensors"
    width = before[lying.axis]
    wide = [1] * len(before)
    wide[lying.axis] = width
    numbers = torch.arange(1.0, width + 1, dtype=torch.float64).reshape(wide).expand(before).clone()

    def through(x: Tensor) -> Tensor:
        made = recomputed(node, x)
        assert isinstance(made, Tensor)
        return made

    made, nothing = through(numbers), through(torch.zeros_like(numbers))
    if bool(nothing.any()) or made.ndim < 2 or made.shape[0] != IMAGES:
        return None
    for axis in range(1, made.ndim):
        others = [d for d in range(made.ndim) if d != axis]
        entry = made.amax(dim=others)
        whole = entry.reshape([-1 if d == axis else 1 for d in range(made.ndim)])
        off = torch.minimum((made - whole).abs(), made.abs())  # a resized picture rounds
        if float(off.max()) <= ROUNDING * width:
            place = np.rint(entry.numpy()).astype(np.int64) - 1
            return UnitLayout(axis, np.where(place < 0, NO_UNIT, lying.unit[place]), lying.acted[place] & (place >= 0))
    return None


def lying_joined(
    node: TracedNode, parts: Sequence[TracedNode | Tensor], found: dict[TracedNode, UnitLayout]
) -> UnitLayout | None:
    """Behind a concatenation: along the axis of the units one after the other, along another one if they agree."""
    dim = node.argument("dim")
    if node.shape is None or not isinstance(dim, int):
        return None
    axis = dim % len(node.shape)
    lyings = [found.get(part) if isinstance(part, TracedNode) else None for part in parts]
    there = [each for each in lyings if each is not None]
    if there and len(there) == len(parts) and there[0].axis != axis:
        same = all(each.same_places(there[0]) for each in there)
        return replace(there[0], acted=np.all([each.acted for each in there], axis=0)) if same else None
    if axis == 0 or any(each.axis != axis for each in there):
        return None
    units, acted = [], []
    for part, each in zip(parts, lyings, strict=True):
        shape = part.shape
        if shape is None:
            return None
        units.append(np.full(shape[axis], NO_UNIT) if each is None else each.unit)
        acted.append(np.zeros(shape[axis], dtype=bool) if each is None else each.acted)
    return UnitLayout(axis, np.concatenate(units), np.concatenate(acted))
