"""Schedules that train between removals, after them, or before."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.training.scheduled import PLAIN, by_norm, check_steps, in_each, small
from training import (
    Dataset,
    Epoch,
    FitSettings,
    Masks,
    Method,
    at_initialisation,
    build,
    counts,
    during_training,
    evaluate,
    fit,
    iterative,
    model_digest,
    one_shot,
    search_swaps,
)
from training.pruning import removed_entries


def test_training_between_the_steps_leaves_removed_units_out_and_what_returns_has_its_old_weights() -> None:
    model, data = small()
    fitted: list[nn.Module] = []
    wholes: list[nn.Module] = []

    def between(network: nn.Module, masks: Masks) -> nn.Module:
        settings = FitSettings(epochs=1, batch_size=8, learning_rate=0.01)
        fitted.append(fit(network, data, data, settings, masks=masks).model)
        return fitted[-1]

    def watch(whole: nn.Module, masks: Masks) -> object:
        wholes.append(whole)
        return search_swaps(whole, masks, data.images, data.labels, tries=0)

    method = Method(by_norm, in_each, swap=watch)
    shares = (0.2, 0.4, 0.6)
    steps = list(iterative(model, method, shares, data.images[:1], between=between))
    check_steps(model, steps, shares)
    assert len(fitted) == 2, "the last step is not trained after its removal"
    original = model.state_dict()
    for trained, whole, step in zip(fitted, wholes[1:], steps, strict=False):
        zeros = removed_entries(model, step.masks, data.images[:1])
        for key, value in whole.state_dict().items():
            removed = zeros.get(key.replace("running_var", "running_mean"), torch.zeros(value.shape, dtype=torch.bool))
            assert torch.equal(value[~removed], trained.state_dict()[key][~removed])
            if step is steps[0]:
                assert torch.equal(value[removed], original[key][removed])


def test_at_initialisation_the_untrained_network_is_pruned_and_then_trained(digits: Dataset) -> None:
    model = build("fc2", input_shape=digits.input_shape, classes=10, seed=0)
    settings = FitSettings(epochs=2)
    *removals, last = at_initialisation(model, PLAIN, (0.2, 0.4), digits.train, digits.validation, settings)
    expected = list(iterative(model, PLAIN, (0.2, 0.4), digits.train.images[:1]))
    assert [model_digest(step.network) for step in removals] == [model_digest(step.network) for step in expected]
    assert last.masks is removals[-1].masks
    assert [epoch.index for epoch in last.epochs] == [1, 2]
    assert (last.index, last.share, last.scores) == (3, 0.4, None)
    same = fit(model, digits.train, digits.validation, settings, masks=last.masks).model
    assert model_digest(last.network) == model_digest(same)
    assert evaluate(last.network, digits.validation).accuracy > 0.5


def test_during_training_every_k_epochs_more_units_go_and_training_goes_on_to_the_last_epoch() -> None:
    model, data = small()
    seen: list[Epoch] = []
    settings = FitSettings(epochs=5, batch_size=8, seed=3)
    steps = list(during_training(model, PLAIN, (0.2, 0.5), data, data, settings, every=2, callbacks=[seen.append]))
    check_steps(model, steps, (0.2, 0.5, 0.5))
    assert [len(step.epochs) for step in steps] == [2, 2, 1]
    assert [epoch.index for epoch in seen] == [1, 2, 3, 4, 5]
    assert tuple(seen) == tuple(epoch for step in steps for epoch in step.epochs)
    # Up to the first removal it is plain training.
    start = fit(model, data, data, FitSettings(epochs=2, batch_size=8, seed=3)).model
    (first,) = one_shot(start, PLAIN, 0.2, data.images[:1])
    assert model_digest(steps[0].network) == model_digest(first.network)
    # After it the images come in another order than before.
    same_order = fit(first.network, data, data, FitSettings(epochs=2, batch_size=8, seed=3), masks=first.masks)
    assert steps[1].epochs[0].train_loss != same_order.epochs[0].train_loss
    assert counts(steps[2].masks) == counts(steps[1].masks) == {"0": 3, "4": 4, "9": 3}
    again = list(during_training(model, PLAIN, (0.2, 0.5), data, data, settings, every=2))
    assert model_digest(again[-1].network) == model_digest(steps[-1].network)
    exact = list(during_training(model, PLAIN, (0.2, 0.5), data, data, FitSettings(epochs=4), every=2))
    assert len(exact) == 2


def test_training_goes_on_from_masks_that_an_earlier_run_left() -> None:
    model, data = small()
    masks = {"0": np.array([False, True, True, True, False, True]), "9": np.ones(7, dtype=bool)}
    settings = FitSettings(epochs=2, batch_size=8)
    steps = list(during_training(model, PLAIN, (0.5,), data, data, settings, every=1, masks=masks))
    check_steps(model, steps, (0.5, 0.5))
    assert counts(steps[-1].masks) == {"0": 3, "9": 3}
    assert not steps[-1].masks["0"][[0, 4]].any()
