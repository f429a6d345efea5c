"""Structured Optimal Brain Surgeon: units in the order in which they cost least, once the survivors take over."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import SelectionError
from training.inference import evaluating
from training.pruning.dependencies import consumers
from training.pruning.ranking.baselines import checked
from training.pruning.ranking.evidence import Evidence
from training.pruning.ranking.readings import (
    Reading,
    answer_sensitivity,
    drop,
    inverting,
    readings_of,
    removal_costs,
)
from training.pruning.refit import passes_over
from training.pruning.selection import Scores


def structured_obs(evidence: Evidence) -> Scores:
    """The position of each unit in the order of removal, in (0, 1]: the first to go has the lowest.

    For the layers that read the units, with weights W and H = Z Z' + r I of what they read (centred where they have a
    bias), B the columns of a unit, the unit goes whose removal costs least once the others are fitted anew, and W and
    H^-1 are updated:

        loss = tr( W_B [H^-1]_BB^-1 W_B' ) - r ||W_B||^2
        W -= W_B [H^-1]_BB^-1 [H^-1]_B,        H^-1 -= [H^-1]_B' [H^-1]_BB^-1 [H^-1]_B

    summed over the reading layers. r = `DAMPING` times the mean second moment; labels are not read.

    Raises:
        SelectionError: a layer that no Linear layer and no convolution reads.
        RefitError: readings that are not finite, or whose second moments cannot be inverted.

    Source: Hassibi, Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992, with the
    layer-wise error of Dong, Chen, Pan, "Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain Surgeon",
    NIPS 2017. Departs from both: whole units in place of single weights.
    """
    found = {}
    for layer, order in _orders(evidence.model, evidence.images, evidence.layers, "structured_obs").items():
        found[layer] = _placed(order, [step / len(order) for step in range(1, len(order) + 1)])
    return checked("structured_obs", found)


def fisher_obs(evidence: Evidence) -> Scores:
    """What the removal of each unit costs the network's answers, in the order of structured OBS, once others take over.

    As `structured_obs`, but with errors e of the reading layers measured by what they do to the answers: e' F e / 2 in
    place of e' e, with F the Fisher information of `answer_sensitivity`, summed over places, mean over images. To
    second order, layer for layer, that is T^2 KL between the answers at temperature T before and after; so scores of
    different layers compare, except where torch does not follow the answers back to a layer that reads the units
    (`torch.no_grad`, `detach`): its outputs then count alike, F = I. A unit's score is the most that it or
    any unit before it costs.

    Raises:
        SelectionError, RefitError: as `structured_obs`; RefitError also where torch cannot differentiate the answers.

    Source: as `structured_obs`; F with the factors of Martens, Grosse, "Optimizing Neural Networks with
    Kronecker-factored Approximate Curvature", ICML 2015. Departs from it: F is of the answers that the network gives,
    with no labels drawn.
    """
    return checked("fisher_obs", answer_costs(evidence.model, evidence.images, evidence.layers))


def answer_costs(model: nn.Module, images: Tensor, layers: Sequence[str]) -> Scores:
    """The scores of `fisher_obs`, for images as the network takes them.

    Args:
        model: left as it was, on whatever device: a copy on the CPU is measured, so several threads may do so.
        images: [n, ...], unlabelled.
        layers: by name.

    Raises:
        SelectionError, RefitError, UnsupportedGraph: as `fisher_obs`.
    """
    found = {}
    for layer, order in _orders(model, images, layers, "fisher_obs", weighted=True).items():
        costs = np.maximum.accumulate([cost / (2 * len(images)) for _, cost in order])
        found[layer] = _placed(order, costs)
    return found


def _orders(
    model: nn.Module, images: Tensor, layers: Sequence[str], rule: str, *, weighted: bool = False
) -> dict[str, list[tuple[int, float]]]:
    """Every unit with what its removal cost when it went, by layer, the first to go first; the last never goes."""
    # A copy even where it is on the CPU: hooks, modes and forwards of a model that other threads run stay as they are.
    model, images = copy.deepcopy(model).to("cpu"), images.cpu()
    links = consumers(model, images[:1], layers)
    readers = {reader.layer for link in links.values() for reader in link.readers}
    found = {}
    with evaluating(model):
        weights = answer_sensitivity(model, readers, images) if weighted else None
        passes = passes_over(model, images, constant=True)
        for layer in layers:
            with inverting(layer):
                readings = readings_of(passes, links[layer], weights)
                if not readings:
                    raise SelectionError(f"rule {rule!r}: no layer reads {layer!r} alone; leave it out")
                found[layer] = _order(readings, links[layer].units)
    return found


def _placed(order: list[tuple[int, float]], values: Iterable[float]) -> NDArray[np.float64]:
    """Values in the order of the units' numbers."""
    placed = np.zeros(len(order))
    placed[[unit for unit, _ in order]] = list(values)
    return placed


def _order(readings: list[Reading], units: int) -> list[tuple[int, float]]:
    order: list[tuple[int, float]] = []
    left = list(range(units))
    while left:
        losses = torch.zeros(units, dtype=torch.float64)
        for reading in readings:
            mine = [unit for unit in left if unit in reading.columns]
            losses[mine] += _losses(reading, reading.of(mine)) if mine else 0.0
        gone = min(left, key=lambda unit: float(losses[unit]))
        left.remove(gone)
        order.append((gone, float(losses[gone])))
        if not left:
            break
        for reading in readings:
            if gone in reading.columns:
                drop(reading, reading.columns[gone])
    return order


def _losses(reading: Reading, columns: Tensor) -> Tensor:
    """What the removal of each unit costs, for their columns [units, width]; the ridge on what goes is no loss."""
    return removal_costs(reading, columns) - reading.damping * reading.weight[:, columns].square().sum((0, 2))
