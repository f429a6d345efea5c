"""Structured Optimal Brain Surgeon: units in the order in which they cost least, once the survivors take over."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.errors import SelectionError
from training.inference import evaluating
from training.pruning.dependencies import consumers
from training.pruning.ranking.baselines import checked
from training.pruning.ranking.evidence import Evidence
from training.pruning.ranking.readings import Reading, drop, readings_of, removal_costs
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

    Source: Hassibi, Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992, with the
    layer-wise error of Dong, Chen, Pan, "Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain Surgeon",
    NIPS 2017. Departs from both: whole units in place of single weights.
    """
    links = consumers(evidence.model, evidence.images[:1], evidence.layers)
    found = {}
    with evaluating(evidence.model):
        for layer in evidence.layers:
            units, readings = links[layer].units, readings_of(evidence.model, links[layer], evidence.images)
            if not readings:
                raise SelectionError(f"rule 'structured_obs': no layer reads {layer!r} alone; leave it out")
            found[layer] = _positions(readings, units)
    return checked("structured_obs", found)


def _positions(readings: list[Reading], units: int) -> NDArray[np.float64]:
    position = np.ones(units)
    left = list(range(units))
    for step in range(1, units):
        losses = torch.zeros(units, dtype=torch.float64)
        for reading in readings:
            mine = [unit for unit in left if unit in reading.columns]
            losses[mine] += _losses(reading, reading.of(mine)) if mine else 0.0
        gone = min(left, key=lambda unit: float(losses[unit]))
        left.remove(gone)
        position[gone] = step / units
        for reading in readings:
            if gone in reading.columns:
                drop(reading, reading.columns[gone])
    return position


def _losses(reading: Reading, columns: Tensor) -> Tensor:
    """What the removal of each unit costs, for their columns [units, width]; the ridge on what goes is no loss."""
    return removal_costs(reading, columns) - reading.damping * reading.weight[:, columns].square().sum((0, 2))
