"""Schedules that cannot be run are refused in one line, before any work where that can be known."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from tests.training.networks import drawn_masks
from tests.training.scheduled import PLAIN, by_norm, everywhere, in_each, small
from training import (
    DeviceError,
    FitSettings,
    LabelError,
    Masks,
    Method,
    ScheduleError,
    Scores,
    SelectionError,
    Split,
    at_initialisation,
    consumers,
    counts,
    during_training,
    even_shares,
    iterative,
    one_shot,
)


def test_what_cannot_be_trained_is_refused_before_anything_is_scored() -> None:
    model, data = small()
    beyond = Split(data.images, data.labels + 1)
    with pytest.raises(LabelError, match="the model has 3 outputs"):
        at_initialisation(model, PLAIN, (0.5,), data, beyond, FitSettings())
    with pytest.raises(DeviceError, match="abacus"):
        during_training(model, PLAIN, (0.5,), data, data, FitSettings(device="abacus"), every=1)


RISING = "above that of the step before"


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((), "the schedule has no shares"),
        ((0.2, 0.2), f"share 0.2 of step 2 is not {RISING}"),
        ((0.4, 0.2), f"share 0.2 of step 2 is not {RISING}"),
        ((0.5, 1.0), "share 1.0 of step 2 is out of range"),
        ((-0.1,), "share -0.1 of step 1"),
        ((float("nan"),), "share nan of step 1"),
        ((0.5, 0.92), "step 2 would empty a layer, as '0' of 6 units.*largest share that works is 0.857"),
    ],
)
def test_shares_that_cannot_be_removed_are_refused_before_any_work(shares: tuple[float, ...], said: str) -> None:
    model, data = small()

    def never(network: nn.Module, masks: Masks) -> Scores:
        pytest.fail("scored before the shares were checked")

    method, settings = Method(never, in_each), FitSettings(epochs=2)
    with pytest.raises(ScheduleError, match=said):
        iterative(model, method, shares, data.images[:1])
    with pytest.raises(ScheduleError, match=said):
        at_initialisation(model, method, shares, data, data, settings)
    with pytest.raises(ScheduleError, match=said):
        during_training(model, method, shares, data, data, settings, every=1)


def test_the_largest_share_that_is_named_does_work() -> None:
    model, data = small()
    (step,) = one_shot(model, Method(by_norm, kindly), 18 / 21, data.images[:1])
    assert {int(mask.sum()) for mask in step.masks.values()} == {1}


def kindly(scores: Scores, masks: Masks, share: float) -> Masks:
    return {layer: np.arange(len(values)) == values.argmax() for layer, values in scores.items()}


def test_a_selection_that_would_empty_a_layer_names_layer_step_and_the_largest_share_that_works() -> None:
    model, data = small()

    def lopsided(network: nn.Module, masks: Masks) -> Scores:
        return {layer: np.arange(len(mask)) + (0.0 if layer == "4" else 100.0) for layer, mask in masks.items()}

    walk = iterative(model, Method(lopsided, everywhere), (0.3, 0.5), data.images[:1])
    next(walk)
    with pytest.raises(ScheduleError, match=r"step 2, .* share 0.5 .* would empty layer '4'; .* works is 0.333"):
        next(walk)
    (step,) = one_shot(model, Method(lopsided, everywhere), 7 / 21, data.images[:1])
    assert counts(step.masks) == {"0": 0, "4": 7, "9": 0}
    with pytest.raises(ScheduleError, match="no more can be removed"):
        next(one_shot(model, Method(lopsided, everywhere), 8 / 21, data.images[:1], masks=step.masks))


def refuse(scores: Scores, masks: Masks, share: float) -> Masks:
    raise SelectionError("no")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Method(lambda n, m: {"0": np.zeros(6)}, in_each), "scores of '4' are missing: one for each of its 8 units"),
        (Method(lambda n, m: by_norm(n, m) | {"9": np.zeros(2)}, in_each), r"scores of '9' are of shape \(2,\)"),
        (Method(lambda n, m: by_norm(n, m) | {"9": np.full(7, np.nan)}, in_each), "score of unit 0 of '9' is nan"),
        (Method(by_norm, lambda s, m, p: {}), "step 1, .* no selection of 6 bools for layer '0'"),
        (Method(by_norm, refuse), r"step 1, .* cannot be selected \(no\)"),
    ],
)
def test_scores_and_selections_that_do_not_fit_are_refused_in_one_line(method: Method, said: str) -> None:
    model, data = small()
    with pytest.raises((ScheduleError, SelectionError), match=said) as caught:
        next(one_shot(model, method, 0.5, data.images[:1]))
    assert "\n" not in str(caught.value)


def test_schedules_that_do_not_fit_epochs_masks_or_network_are_refused() -> None:
    model, data = small()
    settings = FitSettings(epochs=3)
    with pytest.raises(ScheduleError, match="every=0"):
        during_training(model, PLAIN, (0.5,), data, data, settings, every=0)
    with pytest.raises(ScheduleError, match="2 removals, one every 2 epochs, need 4 epochs but there are 3"):
        during_training(model, PLAIN, (0.2, 0.5), data, data, settings, every=2)
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=0)
    with pytest.raises(ScheduleError, match=r"share 0.1 of step 1 lies below the 0\.\d+ of the units that the masks"):
        iterative(model, PLAIN, (0.1,), data.images[:1], masks=masks)
    with pytest.raises(ScheduleError, match="no layer whose units could be removed"):
        iterative(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), PLAIN, (0.1,), data.images[:1])


@pytest.mark.parametrize(("target", "steps"), [(0.0, 2), (1.0, 2), (float("nan"), 2), (0.5, 0)])
def test_even_shares_outside_their_range_are_refused(target: float, steps: int) -> None:
    with pytest.raises(ScheduleError, match=f"steps={steps}"):
        even_shares(target, steps)
