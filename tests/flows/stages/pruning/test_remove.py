"""Removing units from a network in the flows' words."""

import logging
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

import training
from flows.adapters.library_settings import dataset_of, refit_images_of
from flows.config.settings import Settings
from flows.stages.pruning.refit_log import refit_columns, refit_figures, refit_in_words, say_refit
from flows.stages.pruning.remove import (
    RemovalFromDense,
    Removed,
    choose_after_refit,
    refitted_swap_search_of,
    remove_units,
    rework_of,
    swap_search_of,
    without,
)
from training import Dataset, LayerRefit, Masks, Method, RefitError, Refitted, ScoringSet, Split, SwapResult

SETTINGS = Settings(image_size=8, refit="false")
MASKS = {"0": np.array([True, False, True]), "4": np.array([True, True, False, True])}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_of(SETTINGS)


@pytest.fixture
def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(3 * 36, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 10)),
    ).eval()


def test_statistics_are_measured_anew_without_the_removed_units(normed: nn.Module, dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"recalibrate": True})
    plain, measured = (without(each, normed, MASKS, dataset) for each in (SETTINGS, settings))
    images = dataset.train.images
    with torch.no_grad():
        before, arriving = plain[:5](images), measured[:5](images)
        emitted = measured[:3](images)[:, 1], measured[:7](images)[:, 2]
    assert not torch.allclose(before, arriving)
    # Batches are normalised by themselves while they are measured, so the means only nearly agree.
    torch.testing.assert_close(measured[5].running_mean[[0, 1, 3]], arriving.mean(0)[[0, 1, 3]], rtol=1e-2, atol=1e-2)
    assert not any(outputs.any() for outputs in emitted)


def test_nothing_follows_a_removal_unless_it_is_asked_for(dataset: Dataset) -> None:
    images = ScoringSet(dataset.validation.images[:4], dataset.validation.labels[:4], torch.arange(4))
    assert rework_of(SETTINGS, dataset) is None
    assert swap_search_of(SETTINGS, images) is None


def test_exchanging_lowers_the_loss_and_keeps_the_counts(normed: nn.Module, dataset: Dataset) -> None:
    images = ScoringSet(dataset.validation.images[:60], dataset.validation.labels[:60], torch.arange(60))
    swap = swap_search_of(SETTINGS.model_copy(update={"exchange": 20}), images)
    assert swap is not None
    found = swap(normed, MASKS)
    assert found.loss_after <= found.loss_before
    assert {layer: mask.sum() for layer, mask in found.masks.items()} == {"0": 2, "4": 3}


@pytest.mark.parametrize(
    ("limits", "moves_across"),
    [({}, True), ({"leave_alone": "4"}, False), ({"floor": 2}, False), ({"round_to": 2}, False)],
)
def test_a_share_of_all_units_leaves_their_layers_free_unless_limits_speak_of_layers(
    normed: nn.Module, dataset: Dataset, limits: dict[str, object], moves_across: bool
) -> None:
    images = ScoringSet(dataset.validation.images[:60], dataset.validation.labels[:60], torch.arange(60))
    masks = {"0": np.array([False, False, True]), "4": np.array([True, True, True, True])}
    settings = SETTINGS.model_copy(update={"exchange": 40, "selection": "quantile", **limits})
    swap = swap_search_of(settings, images)
    assert swap is not None
    kept = {layer: int(mask.sum()) for layer, mask in swap(normed, masks).masks.items()}
    assert sum(kept.values()) == 5
    assert (kept != {"0": 1, "4": 4}) == moves_across


REFITTED = SETTINGS.model_copy(update={"refit": "true", "refit_images": 300})


def test_survivors_are_fitted_to_a_seeded_draw_of_training_images(normed: nn.Module, dataset: Dataset) -> None:
    drawn = refit_images_of(REFITTED, dataset)
    assert drawn.shape == (300, 1, 8, 8)
    assert torch.equal(drawn, refit_images_of(REFITTED, dataset))
    assert not torch.equal(drawn, refit_images_of(REFITTED.model_copy(update={"seed": 1}), dataset))
    many = REFITTED.model_copy(update={"refit_images": 10**6})
    assert torch.equal(refit_images_of(many, dataset), dataset.train.images)
    found = remove_units(REFITTED, normed, MASKS, dataset)
    expected = training.refit(normed, MASKS, drawn).state_dict()
    assert all(torch.equal(found.network.state_dict()[name], value) for name, value in expected.items())


@pytest.mark.parametrize("labels_turned", [False, True])
def test_by_itself_the_refit_is_kept_where_the_validation_images_do_not_lose(
    normed: nn.Module, dataset: Dataset, labels_turned: bool
) -> None:
    # With the labels that the pruned network gives, any other network can only lose.
    masks = {**MASKS, "4": np.array([False, True, False, False])}
    with torch.no_grad():
        normed[7].weight *= 10.0
    plain = without(SETTINGS, normed, masks, dataset)
    with torch.no_grad():
        seen = (plain if labels_turned else normed)(dataset.validation.images).argmax(1)
    data = replace(dataset, validation=Split(dataset.validation.images, seen))
    found = remove_units(REFITTED.model_copy(update={"refit": "auto"}), normed, masks, data)
    before, after = found.accuracies
    assert found.kept == (after >= before) == (not labels_turned)
    assert (found.network is found.plain) == labels_turned
    metrics = {**refit_figures(found), "refit_images_seen": found.images}
    assert ("not kept" in refit_in_words(metrics)) == labels_turned


def test_a_unit_that_comes_back_in_a_later_step_has_its_dense_weights_and_is_refitted_with_the_others(
    normed: nn.Module, dataset: Dataset
) -> None:
    """The second step swaps unit 2 of layer 4, which the first one removed, for unit 0."""
    removals = iter([[2], [0, 1]])

    def swap(_: nn.Module, masks: Masks) -> SwapResult:
        chosen = {**masks, "4": ~np.isin(np.arange(4), next(removals))}
        return SwapResult(chosen, 0.0, 0.0, {}, 1)

    anew = RemovalFromDense(REFITTED, normed, dataset)
    scores = {"4": np.arange(4.0)}
    method = Method(lambda *_: scores, lambda values, _, share: training.by_share(values, share).masks, swap, anew)
    steps = training.iterative(
        normed, method, (0.25, 0.5), dataset.train.images[:1], masks={"4": np.ones(4, dtype=bool)}
    )
    first, second = steps
    assert [np.flatnonzero(~each.masks["4"]).tolist() for each in (first, second)] == [[2], [0, 1]]
    assert second.returned == {"4": (2,)}
    expected = training.refit(normed, second.masks, refit_images_of(REFITTED, dataset)).state_dict()
    assert len(anew.done) == 2
    assert all(torch.equal(second.network.state_dict()[name], value) for name, value in expected.items())


def test_where_nothing_is_removed_nothing_is_refitted(normed: nn.Module, dataset: Dataset) -> None:
    masks = {layer: np.ones_like(mask) for layer, mask in MASKS.items()}
    found = remove_units(REFITTED, normed, masks, dataset)
    assert found.refitted is None
    assert all(torch.equal(found.network.state_dict()[key], value) for key, value in normed.state_dict().items())


def exploding(normed: nn.Module) -> nn.Module:
    """Its first layer's units overflow where the next one sums them."""
    with torch.no_grad():
        normed[1].weight.fill_(1e38)
        normed[4].weight.fill_(1e38)
    return normed


def test_a_refit_that_cannot_be_made_is_left_out_and_said_unless_it_is_asked_for_by_name(
    normed: nn.Module, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    found = remove_units(REFITTED.model_copy(update={"refit": "auto"}), exploding(normed), MASKS, dataset)
    assert found.network is found.plain
    logger = logging.getLogger("flows")
    logger.propagate = True
    with caplog.at_level(logging.INFO, "flows"):
        say_refit(found, len(dataset.train))
    assert "no refit: layer '4' reads or emits NaN or infinite values" in caplog.text
    with pytest.raises(RefitError, match="layer '4'"):
        remove_units(REFITTED, normed, MASKS, dataset)


def test_fewer_images_than_inputs_are_said(
    normed: nn.Module, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    found = remove_units(REFITTED.model_copy(update={"refit_images": 20}), normed, MASKS, dataset)
    with caplog.at_level(logging.INFO, "flows"):
        say_refit(found, 21)
        say_refit(found, 20)
    said = "refit of 4: 20 readings for 72 inputs, the ridge decides the rest; "
    assert f"{said}more refit_images help" in caplog.text
    assert f"{said}all 20 training images are used" in caplog.text


def test_the_table_of_refits_has_a_row_for_every_layer_of_every_step_and_says_what_was_left() -> None:
    fitted = Refitted(
        nn.Identity(), {"a": LayerRefit(0.5, 0.25, 1e-3, 4, 20)}, {"b": "its weight is also a.weight"}, 0.1
    )
    plain = Removed(nn.Identity(), nn.Identity())
    found = refit_columns([plain, replace(plain, refitted=fitted)])
    assert found["layer"] == ["a", "b"]
    assert found["error_after"] == [0.25, None]
    assert found["left_because"] == ["", "its weight is also a.weight"]
    assert found["step"] == [2, 2]


@pytest.mark.parametrize("spoiling", [False, True])
def test_statistics_are_measured_anew_after_the_refit_where_the_validation_images_gain(
    normed: nn.Module, dataset: Dataset, spoiling: bool
) -> None:
    settings = REFITTED.model_copy(update={"recalibrate": True})
    fitted = training.refit(normed, MASKS, refit_images_of(settings, dataset))
    measured = training.prune(training.recalibrate(fitted, dataset.train.images), MASKS, dataset.train.images[:1])
    wanted = fitted if spoiling else measured
    data = replace(
        dataset,
        validation=Split(dataset.validation.images, training.predict(wanted, dataset.validation.images).argmax(1)),
    )
    found = remove_units(settings, normed, MASKS, data)
    assert found.accuracies[1] == 1.0
    expected = wanted.state_dict()
    same = {name: torch.equal(value, expected[name]) for name, value in found.network.state_dict().items()}
    assert all(same.values()) or training.evaluate(fitted, data.validation).accuracy == 1.0


def test_exchanging_is_judged_after_refit_and_by_the_validation_images(normed: nn.Module, dataset: Dataset) -> None:
    with torch.no_grad():
        normed[7].weight *= 10.0
        labels = normed(dataset.validation.images).argmax(1)
    data = replace(dataset, validation=Split(dataset.validation.images, labels))
    masks = {"0": np.array([True, False, True]), "4": np.array([True, False, False, True])}
    settings = REFITTED.model_copy(update={"exchange": 20})
    swap = refitted_swap_search_of(settings, normed, data)
    assert swap is not None
    found = [swap(normed, each) for each in every_mask(masks)]
    assert len(found) == 3 * 6
    assert any(sum(each.swaps.values()) for each in found)
    for each, given in zip(found, every_mask(masks), strict=True):
        before, after = (
            training.evaluate(without(settings, normed, chosen, data), data.validation).accuracy
            for chosen in (given, each.masks)
        )
        assert after >= before
        assert each.loss_after <= each.loss_before
    assert refitted_swap_search_of(REFITTED, normed, dataset) is None


def test_masks_of_a_program_are_kept_where_no_others_are_better_after_refit(
    normed: nn.Module, dataset: Dataset
) -> None:
    with torch.no_grad():
        normed[7].weight *= 10.0
        labels = normed(dataset.validation.images).argmax(1)
    data = replace(dataset, validation=Split(dataset.validation.images, labels))
    settings = REFITTED.model_copy(update={"selection": "program"})

    def accuracy(masks: Masks) -> float:
        return training.evaluate(without(settings, normed, masks, data), data.validation).accuracy

    every = {accuracy(masks): masks for masks in every_mask(MASKS)}
    for given in (every[min(every)], every[max(every)]):
        found = choose_after_refit(settings, normed, given, data)
        assert training.counts(found.masks) == training.counts(given)
        assert found.value == accuracy(found.masks) == max(found.judged.values())
        assert found.judged["program"] == accuracy(given)
    assert found.origin == "program"
    alone = choose_after_refit(settings.model_copy(update={"exchange": 0}), normed, every[min(every)], data)
    assert not any("swaps" in name for name in alone.judged)


def test_masks_are_chosen_without_swaps_where_the_answers_cannot_be_differentiated(
    normed: nn.Module, dataset: Dataset
) -> None:
    layers = list(normed)
    layers[6:7] = [nn.Tanh(), nn.ReLU(inplace=True)]  # the derivative of tanh needs what is written over
    network = nn.Sequential(*layers).eval()
    found = choose_after_refit(SETTINGS.model_copy(update={"refit": "true", "exchange": 5}), network, MASKS, dataset)
    assert "program" in found.judged
    assert not any("fisher_obs" in name or "swaps" in name for name in found.judged)
    assert training.counts(found.masks) == training.counts(MASKS)


def every_mask(masks: Masks) -> list[Masks]:
    """All masks of the same counts."""
    choices = []
    for mask in masks.values():
        kept = combinations(range(len(mask)), int(mask.sum()))
        choices.append([np.isin(np.arange(len(mask)), units) for units in kept])
    return [dict(zip(masks, chosen, strict=True)) for chosen in product(*choices)]
