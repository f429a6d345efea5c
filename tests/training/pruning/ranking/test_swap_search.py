from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.training.networks import chains, drawn_masks, example, mixed
from tests.training.pruning.ranking.test_gate_gradients import labelled, loss_of_pruned
from training import Dataset, counts
from training.digests import model_digest
from training.errors import FitSettingsError, MaskError, SelectionError
from training.pruning import Masks, consumers
from training.pruning.ranking import search_swaps
from training.pruning.ranking.gate_gradients import GatedNetwork


@settings(max_examples=25, deadline=None)
@given(chains(), st.integers(0, 1000), st.sampled_from([0.3, 0.6]))
def test_the_loss_never_rises_counts_stay_and_both_losses_are_those_of_the_pruned_network(
    model: nn.Sequential, seed: int, keep: float
) -> None:
    images, labels = labelled(model, 30)
    masks = drawn_masks(model, list(consumers(model, images)), seed, keep)
    found = search_swaps(model, masks, images, labels, tolerance=0.0)
    assert found.loss_after <= found.loss_before
    assert found.loss_before == pytest.approx(loss_of_pruned(model, masks, images, labels), abs=1e-6)
    assert found.loss_after == pytest.approx(loss_of_pruned(model, found.masks, images, labels), abs=1e-6)
    assert counts(found.masks) == counts(masks)
    moved = {layer: int((found.masks[layer] & ~mask).sum()) for layer, mask in masks.items()}
    # A unit may go and come back: there can be more swaps than places that differ.
    assert all(moved[layer] <= found.swaps[layer] for layer in masks)
    assert sum(found.swaps.values()) <= found.evaluated <= 40


def narrow(seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Two hidden layers of five and four units that have learned what the labels follow."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    images = torch.rand(60, 1, 2, 3)
    labels = (images.flatten(1) @ torch.randn(6, 3)).argmax(1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model.eval(), images, labels


def every_mask(masks: Masks) -> list[Masks]:
    choices = []
    for mask in masks.values():
        kept = [set(units) for units in combinations(range(len(mask)), int(mask.sum()))]
        choices.append([np.array([unit in units for unit in range(len(mask))]) for units in kept])
    return [dict(zip(masks, chosen, strict=True)) for chosen in product(*choices)]


def test_most_often_no_mask_with_these_counts_is_better_and_never_is_the_first_one() -> None:
    best = 0
    for seed in range(10):
        model, images, labels = narrow(seed)
        masks = drawn_masks(model, ["1", "3"], seed)
        found = search_swaps(model, masks, images, labels, tolerance=0.0)
        losses = [loss_of_pruned(model, trial, images, labels) for trial in every_mask(masks)]
        assert min(losses) - 1e-6 <= found.loss_after <= found.loss_before
        best += found.loss_after <= min(losses) + 1e-6
    assert best >= 7


def test_with_tries_enough_no_pair_that_the_slopes_promise_anything_of_is_left() -> None:
    left = 0
    for seed in range(8):
        model, images, labels = narrow(seed)
        found = search_swaps(model, drawn_masks(model, ["1", "3"], seed), images, labels, tolerance=0.0, tries=10_000)
        network = GatedNetwork(model, images, labels, ["1", "3"])
        slopes = network.slopes(found.masks)
        for layer, mask in found.masks.items():
            for back, gone in product(np.flatnonzero(~mask), np.flatnonzero(mask)):
                if slopes.by_layer[layer][back] < slopes.by_layer[layer][gone]:
                    trial = mask.copy()
                    trial[[back, gone]] = True, False
                    assert network.loss(found.masks | {layer: trial}, slopes) >= found.loss_after
                    left += 1
    assert left > 0


def test_across_layers_only_the_number_of_all_units_stays_and_the_loss_falls_further() -> None:
    changed, better = 0, 0
    for seed in range(8):
        model, images, labels = narrow(seed)
        masks = drawn_masks(model, ["1", "3"], seed)
        inside = search_swaps(model, masks, images, labels, tolerance=0.0)
        found = search_swaps(model, inside.masks, images, labels, tolerance=0.0, across=True)
        assert found.loss_after <= inside.loss_after + 1e-9
        assert found.loss_after == pytest.approx(loss_of_pruned(model, found.masks, images, labels), abs=1e-6)
        assert sum(counts(found.masks).values()) == sum(counts(masks).values())
        assert all(mask.any() for mask in found.masks.values())
        changed += counts(found.masks) != counts(masks)
        better += found.loss_after < inside.loss_after - 1e-4
    assert changed >= 3
    assert better >= 3


def test_a_pruned_network_reads_more_digits_after_it(digits: Dataset, trained: nn.Module) -> None:
    images, labels = digits.train.images[:200], digits.train.labels[:200]
    masks = drawn_masks(trained, list(consumers(trained, images)), seed=0, keep=0.3)
    found = search_swaps(trained, masks, images, labels, tries=80)
    again = search_swaps(trained, masks, images, labels, tries=80, batch_size=64)
    assert all(np.array_equal(found.masks[layer], again.masks[layer]) for layer in masks)
    assert found.loss_after < 0.8 * found.loss_before
    fewer = search_swaps(trained, masks, images, labels, tries=10)
    assert found.loss_after <= fewer.loss_after <= fewer.loss_before
    assert fewer.evaluated == 10


def test_neither_the_model_nor_the_masks_are_touched_and_layers_left_alone_stay() -> None:
    model = mixed().train()
    images, labels = labelled(mixed(), 30)
    masks = drawn_masks(model, ["0", "4", "9"], seed=3)
    before, digest = {layer: mask.copy() for layer, mask in masks.items()}, model_digest(model)
    found = search_swaps(model, masks, images, labels, tolerance=0.0, leave_alone=["0"])
    assert sum(found.swaps.values()) > 0
    assert found.swaps["0"] == 0
    assert np.array_equal(found.masks["0"], before["0"])
    assert all(np.array_equal(masks[layer], before[layer]) for layer in masks)
    assert model_digest(model) == digest
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_where_nothing_is_removed_nothing_is_tried() -> None:
    model = mixed()
    images, labels = labelled(model)
    whole = drawn_masks(model, ["0", "9"], seed=0, keep=1.0)
    found = search_swaps(model, whole, images, labels)
    assert (found.evaluated, found.loss_before) == (0, found.loss_after)
    part = drawn_masks(model, ["0", "9"], seed=0)
    assert search_swaps(model, part, images, labels, tries=0).loss_after == pytest.approx(
        loss_of_pruned(model, part, images, labels), abs=1e-6
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_a_card_the_same_losses_are_found(digits: Dataset, trained: nn.Module) -> None:
    images, labels = digits.train.images[:200], digits.train.labels[:200]
    masks = drawn_masks(trained, list(consumers(trained, images)), seed=0, keep=0.3)
    found = search_swaps(trained, masks, images, labels, device="cuda")
    assert found.loss_before == pytest.approx(loss_of_pruned(trained, masks, images, labels), abs=1e-4)
    assert found.loss_after == pytest.approx(loss_of_pruned(trained, found.masks, images, labels), abs=1e-4)
    assert found.loss_after < found.loss_before
    assert {parameter.device.type for parameter in trained.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"tries": -1}, FitSettingsError, "tries=-1"),
        ({"tolerance": float("nan")}, FitSettingsError, "tolerance=nan"),
        ({"leave_alone": ["4"]}, SelectionError, "layer '4' to leave alone has no mask: use '0'"),
        ({"masks": {}}, MaskError, "there are no masks"),
        ({"masks": {"0": np.zeros(6, dtype=bool)}}, MaskError, "removes all 6 units"),
    ],
)
def test_what_cannot_be_exchanged_is_refused_in_one_line(change: dict[str, object], error: type, said: str) -> None:
    model = mixed()
    given: dict[str, object] = {"masks": drawn_masks(model, ["0"], seed=0), "images": example(model)}
    with pytest.raises(error, match=said):
        search_swaps(model, labels=torch.zeros(3, dtype=torch.int64), **(given | change))
