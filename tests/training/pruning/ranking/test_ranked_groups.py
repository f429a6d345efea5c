"""Simple rules on groups of units: slopes are those of one gate per group, norms are over all that make a unit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.networks import Inverted, Residual, example, stir
from training.pruning import by_share, consumers, prune
from training.pruning.compaction import compact
from training.pruning.ranking import RULES, Evidence, search_swaps
from training.pruning.ranking.gate_gradients import GatedNetwork
from training.pruning.refit import refit_layers

NETWORKS = {"a sum": Residual, "depthwise": Inverted}


def made(name: str) -> nn.Module:
    torch.manual_seed(3)
    return stir(NETWORKS[name](), 3).double()


def evidence_of(model: nn.Module, images: int = 12) -> Evidence:
    drawn = example(model, images)
    with torch.no_grad():
        labels = torch.arange(images) % model(drawn.double()).shape[1]
    return Evidence(model, drawn, labels, tuple(consumers(model, drawn)), batch_size=5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_order_rule_is_the_slope_by_one_gate_per_group(name: str) -> None:
    model = made(name)
    evidence = evidence_of(model)
    scores = RULES["mean_taylor"](evidence)
    network = GatedNetwork(model, evidence.images, evidence.labels, evidence.layers, batch_size=5)
    slopes = network.slopes({layer: np.ones(len(values), dtype=bool) for layer, values in scores.items()})
    assert any(values.max() > 1e-6 for values in scores.values())
    for layer, values in scores.items():
        np.testing.assert_allclose(values, np.abs(slopes.by_layer[layer]), atol=1e-9)


def test_norms_are_over_the_rows_of_every_layer_that_makes_a_unit() -> None:
    model = made("depthwise")
    evidence = evidence_of(model)
    rows = [model.first_wide.weight.flatten(1), model.first_deep.weight.flatten(1)]
    by_hand = torch.cat(rows, 1).detach().abs().sum(1).numpy()
    np.testing.assert_allclose(RULES["l1_norm"](evidence)["first_wide"], by_hand)
    tied = torch.cat([model.stem.weight.flatten(1), model.first_narrow.weight.flatten(1)], 1).detach()
    np.testing.assert_allclose(RULES["l2_norm"](evidence)["stem"], tied.norm(dim=1).numpy())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "critical"])
def test_every_rule_ranks_groups(name: str, rule: str) -> None:
    evidence = evidence_of(made(name))
    scores = RULES[rule](evidence)
    units = {layer: link.units for layer, link in consumers(evidence.model, evidence.images, evidence.layers).items()}
    assert {layer: len(values) for layer, values in scores.items()} == units


@pytest.mark.parametrize("name", NETWORKS)
def test_a_group_is_refitted_compacted_and_swapped(name: str) -> None:
    model = made(name)
    evidence = evidence_of(model)
    masks = by_share(RULES["l2_norm"](evidence), 0.4).masks
    assert not all(mask.all() for mask in masks.values())
    refitted = refit_layers(model, masks, evidence.images)
    assert not refitted.left
    assert all(each.error_after <= each.error_before + 1e-9 for each in refitted.layers.values())
    smaller = compact(refitted.network, masks, evidence.images)
    with torch.no_grad():
        images = evidence.images.double()
        torch.testing.assert_close(smaller(images), refitted.network(images))
        again = prune(refitted.network, masks, images)
        torch.testing.assert_close(again(images), refitted.network(images))
    swapped = search_swaps(model, masks, evidence.images, evidence.labels, tries=6)
    assert swapped.loss_after <= swapped.loss_before
    assert {layer: mask.sum() for layer, mask in swapped.masks.items()} == {k: m.sum() for k, m in masks.items()}
