"""The mask program in steps: each linearises the network refitted to the mask so far, and units may come back."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

import formulation
import training
from benchmarks.ranked.cells import Bench
from formulation import MaskBudget, MaskSettings, MaskSolution
from training import Masks, Scores

RETURNING = 0.1  # of the units kept: those that may be swapped in a step
IMAGES = 300
SETTINGS = MaskSettings(loss="softened", temperature=1.0, refit_weight=0.03, gap=0.02, nodes=1, time_limit=20.0)


def step(
    bench: Bench, masks: Masks, removed: Mapping[str, int], starts: Scores, settings: MaskSettings = SETTINGS
) -> MaskSolution:
    """The mask program's answer at a level, around the masks of the level before.

    Args:
        bench: with the dense network.
        masks: so far.
        removed: how many units go of each layer.
        starts: scores in whose order the search begins.
    """
    widths = {layer: len(mask) for layer, mask in masks.items()}
    counts = {layer: widths[layer] - removed[layer] for layer in widths}
    leaving = sum(abs(int(masks[layer].sum()) - counts[layer]) for layer in widths)
    changes = leaving + 2 * round(RETURNING * sum(counts.values()))
    network = _around(bench, masks)
    begun = _nearest(masks, counts, starts)
    images, labels = bench.images[:IMAGES], bench.labels[:IMAGES]
    held = [layer for layer in training.consumers(bench.dense, images[:1]) if layer not in bench.layers]
    return formulation.choose_mask(
        network, images, labels, MaskBudget(counts=counts, changes=changes), settings,
        mask=masks, starts=[begun], held=held,
    )  # fmt: skip


def _around(bench: Bench, masks: Masks) -> nn.Module:
    """The network refitted to the masks, its removed units with the weights that they have in the dense one."""
    if all(mask.all() for mask in masks.values()):
        return bench.dense
    refitted = training.refit(bench.dense, masks, bench.fitted)
    whole, dense = copy.deepcopy(refitted), bench.dense.state_dict()
    with torch.no_grad():
        for key, gone in training.removed_entries(bench.dense, masks, bench.images[:1]).items():
            value = whole.state_dict()[key]
            value[gone] = dense[key][gone]
    return whole.eval()


def _nearest(masks: Masks, counts: Mapping[str, int], scores: Scores) -> Masks:
    """The masks so far without further units, those of the lowest scores."""
    found: Masks = {}
    for layer, mask in masks.items():
        kept = np.where(mask, scores[layer], -np.inf)
        order = np.argsort(-kept, kind="stable")
        if counts[layer] > int(mask.sum()):  # other levels may keep more of a layer
            order = np.argsort(-(scores[layer] + 1e9 * mask), kind="stable")
        found[layer] = np.isin(np.arange(len(mask)), order[: counts[layer]])
    return found
