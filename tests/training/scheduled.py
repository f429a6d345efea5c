"""Rankings, selections and networks that the tests of schedules share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from tests.training.networks import example, mixed
from training import (
    Masks,
    Method,
    Scores,
    Split,
    Step,
)
from training.pruning import removed_entries


def by_norm(network: nn.Module, masks: Masks) -> Scores:
    weights = {layer: network.get_submodule(layer).weight.detach() for layer in masks}
    return {layer: weight.flatten(1).norm(dim=1).double().numpy() for layer, weight in weights.items()}


def by_place(network: nn.Module, masks: Masks) -> Scores:
    """The place of the norm in its layer, in [0, 1): no two alike, no layer low as a whole."""
    scores = by_norm(network, masks)
    places = {layer: np.argsort(np.argsort(values, kind="stable")) for layer, values in scores.items()}
    return {layer: (place + 0.01 * number) / len(place) for number, (layer, place) in enumerate(places.items())}


def everywhere(scores: Scores, masks: Masks, share: float) -> Masks:
    """The lowest of all layers together, without mercy for a layer."""
    pooled = np.sort(np.concatenate(list(scores.values())))
    bound = pooled[int(share * len(pooled) + 1e-9)]
    return {layer: values >= bound for layer, values in scores.items()}


def in_each(scores: Scores, masks: Masks, share: float) -> Masks:
    """The same share of every layer, rounded down."""
    ranks = {layer: np.argsort(np.argsort(values, kind="stable")) for layer, values in scores.items()}
    return {layer: rank >= int(share * len(rank) + 1e-9) for layer, rank in ranks.items()}


PLAIN = Method(by_norm, in_each)


def small(seed: int = 0) -> tuple[nn.Sequential, Split]:
    generator = torch.Generator().manual_seed(seed)
    return mixed(seed), Split(torch.rand(24, 1, 12, 12, generator=generator), torch.arange(24) % 3)


def check_steps(model: nn.Module, steps: Sequence[Step], shares: Sequence[float]) -> None:
    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    assert [step.share for step in steps] == list(shares)
    for step in steps:
        for key, removed in removed_entries(model, step.masks, example(model)).items():
            assert not step.network.state_dict()[key][removed].any()
    for earlier, later in pairwise(steps):
        for layer, mask in later.masks.items():
            back = tuple(np.flatnonzero(mask & ~earlier.masks[layer]).tolist())
            assert later.returned.get(layer, ()) == back
