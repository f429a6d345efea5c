"""Local search after refit: a removed unit comes back for a kept one where the refitted layers lose less by that."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import FitSettingsError, MaskError, RefitError, SelectionError
from training.inference import check_finite_weights, check_forward, evaluating
from training.pruning.dependencies import consumers
from training.pruning.masks import Masks
from training.pruning.ranking.readings import (
    TEMPERATURE,
    Reading,
    answer_sensitivity,
    drop,
    inverting,
    readings_of,
    removal_costs,
    return_gains,
    take_back,
)
from training.pruning.ranking.swap_search import SwapResult
from training.pruning.refit import passes_over

CANDIDATES = 4  # units that may come back, of which the swap is worked out in each round
# Of a layer's spread: less is rounding.
LEAST_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class RefittedLoss:
    """What the layers behind the units of some layers lose without them, after refit: the dense network's readings.

    Made once by `measure_readings`, it serves every mask.
    """

    readings: Mapping[str, Sequence[Reading]]

    def of(self, layer: str, mask: NDArray[np.bool_]) -> float:
        """The squared error of the refitted readers of a layer, as a part of their targets' spread."""
        readings, gone = [each.copied() for each in self.readings[layer]], np.flatnonzero(~mask).tolist()
        whole, lost = sum(each.spread for each in readings), 0.0
        for reading in readings:
            mine = [reading.columns[unit] for unit in gone if unit in reading.columns]
            if mine:
                with inverting(layer):
                    lost += float(removal_costs(reading, torch.cat(mine)[None])[0])
        return lost / (whole or 1.0)


def measure_readings(
    model: nn.Module, layers: Collection[str], images: Tensor, *, temperature: float = TEMPERATURE
) -> RefittedLoss:
    """The readings of layers' units in the dense network, outputs weighted by what they do to its answers.

    Args:
        model: the dense network, left as it was, on whatever device: a copy on the CPU is measured.
        layers: whose units may be swapped.
        images: [n, C, H, W], unlabelled.
        temperature: of the answers; a higher one counts images that the network is sure of as well.

    Raises:
        RefitError: no image, activations that are NaN or whose moments cannot be inverted (the layer is named), or
            answers that torch cannot differentiate.
        UnsupportedGraph, ModelError: as `refit_layers`.
    """
    if len(images) == 0:
        raise RefitError("images is empty: give some unlabelled images to measure the readings on")
    # A copy even where it is on the CPU: hooks, modes and forwards of a model that other threads run stay as they are.
    model, images = copy.deepcopy(model).to("cpu"), images.cpu()
    check_finite_weights(model)
    check_forward(model, images[:1])
    links = consumers(model, images[:1], layers)
    readers = {reader.layer for link in links.values() for reader in link.readers}
    with evaluating(model):
        weights = answer_sensitivity(model, readers, images, temperature=temperature)
        found, passes = {}, passes_over(model, images, constant=True)
        for layer in layers:
            with inverting(layer):
                found[layer] = readings_of(passes, links[layer], weights)
    return RefittedLoss(found)


def search_refitted_swaps(
    loss: RefittedLoss, masks: Masks, *, tries: int = 40, leave_alone: Collection[str] = ()
) -> SwapResult:
    """Local search over masks, layer by layer: swap a removed unit for a kept one where the refitted loss L falls.

    For the layers that read the units, with H, C, P and V as in `readings_of`, K the kept columns and F the weights of
    their outputs,

        L(K) = min over V on K of   ||F^1/2 (Y - V Z)||^2 + r ||F^1/2 (V - W)||^2

    is known for every swap in closed form: unit i comes back by E_i S_i^-1 E_i', after which P and V are updated,
    and the unit j goes whose V_j [P_jj]^-1 V_j' is least. The swap stays where L falls. L is that of each layer
    alone, behind a network that is otherwise dense; labels are not read. The same input gives the same masks.

    Args:
        loss: of the dense network, by `measure_readings`.
        masks: by layer, bool [units]: True = kept; how many a layer keeps never changes.
        tries: swaps that may be worked out, of all layers together.
        leave_alone: layers that never change.

    Returns:
        The masks, the mean over the layers of L as a part of their targets' spread, before and after, and the swaps
        that stayed.

    Raises:
        MaskError, SelectionError, FitSettingsError: the masks do not fit the loss, a layer to leave alone has none, or
            `tries` is below 0.
        RefitError: moments that cannot be inverted; the layer is named.

    Source: the exchange of Hassibi, Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon",
    NIPS 1992, whose updates run backwards as well. Departs from it: whole units, and units that come back.
    """
    _check(loss, masks, tries, leave_alone)
    after = {layer: mask.copy() for layer, mask in masks.items()}
    moves = dict.fromkeys(masks, 0)
    spent = 0
    for layer, mask in after.items():
        if layer in leave_alone or mask.all() or not loss.readings[layer]:
            continue
        with inverting(layer):
            worked_out, moves[layer] = _swapped(loss.readings[layer], mask, tries - spent)
        spent += worked_out
    losses = [np.mean([loss.of(layer, each[layer]) for layer in masks]) for each in (masks, after)]
    return SwapResult(after, float(losses[0]), float(losses[1]), moves, spent, measure="squared error after refit")


def _swapped(readings: Sequence[Reading], mask: NDArray[np.bool_], tries: int) -> tuple[int, int]:
    """Swap units of a layer, in place, as long as that pays: how many swaps were worked out, and how many stay."""
    state = _LayerState([each.copied() for each in readings], mask)
    spent = moves = 0
    while spent < tries:
        worked_out, moved = state.swap(tries - spent)
        spent += worked_out
        moves += moved
        if not moved:
            break
    return spent, moves


class _LayerState:
    """A layer's mask and its readings under it; both change with every swap."""

    def __init__(self, readings: list[Reading], mask: NDArray[np.bool_]) -> None:
        self.readings, self.mask = readings, mask
        self.least = LEAST_GAIN * (sum(each.spread for each in readings) or 1.0)
        for unit in np.flatnonzero(~mask).tolist():
            self._drop(unit)

    def swap(self, tries: int) -> tuple[int, int]:
        """Carry out the first swap found that lowers the loss: how many were worked out, and whether one stays."""
        gains = self._sums(return_gains, ~self.mask)
        order = sorted(gains, key=lambda unit: -gains[unit])[: min(CANDIDATES, tries)]
        for number, back in enumerate(order, start=1):
            before = [each.copied() for each in self.readings]
            self._take_back(back)
            costs = self._sums(removal_costs, self.mask)
            costs.pop(back)
            gone = min(costs, key=lambda unit: costs[unit], default=back)
            if costs.get(gone, inf) < gains[back] - self.least:
                self._drop(gone)
                return number, 1
            self.mask[back] = False
            self.readings = before
        return len(order), 0

    def _sums(self, measured: Callable[[Reading, Tensor], Tensor], among: NDArray[np.bool_]) -> dict[int, float]:
        units = np.flatnonzero(among).tolist()
        found = dict.fromkeys(units, 0.0)
        for reading in self.readings:
            mine = [unit for unit in units if unit in reading.columns]
            if mine:
                values = measured(reading, reading.of(mine)).tolist()
                for unit, value in zip(mine, values, strict=True):
                    found[unit] += value
        return found

    def _drop(self, unit: int) -> None:
        self.mask[unit] = False
        for reading in self.readings:
            if unit in reading.columns:
                drop(reading, reading.columns[unit])

    def _take_back(self, unit: int) -> None:
        self.mask[unit] = True
        for reading in self.readings:
            if unit in reading.columns:
                take_back(reading, reading.columns[unit])


def _check(loss: RefittedLoss, masks: Masks, tries: int, leave_alone: Collection[str]) -> None:
    if not masks:
        raise MaskError("there are no masks: give those of one layer or more")
    for layer, mask in masks.items():
        if layer not in loss.readings:
            raise MaskError(f"layer {layer!r} was not measured: give its name to measure_readings as well")
        if not mask.any():
            raise MaskError(f"mask for {layer!r} removes all {len(mask)} units: at least one unit must stay")
    if tries < 0:
        raise FitSettingsError(f"tries={tries} is out of range: use 0 or more")
    for layer in leave_alone:
        if layer not in masks:
            raise SelectionError(f"layer {layer!r} to leave alone has no mask: use {', '.join(map(repr, masks))}")
