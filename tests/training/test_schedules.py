from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.networks import drawn_masks, example, mixed
from training import (
    Dataset,
    DeviceError,
    Epoch,
    FitSettings,
    LabelError,
    Masks,
    Method,
    ScheduleError,
    Scores,
    SelectionError,
    Split,
    Step,
    at_initialisation,
    build,
    consumers,
    counts,
    during_training,
    evaluate,
    even_shares,
    exchange,
    fit,
    iterative,
    model_digest,
    one_shot,
    prune,
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


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.sampled_from([in_each, everywhere]), st.floats(0.05, 0.6), st.integers(1, 5))
def test_units_go_step_by_step_and_none_comes_back(
    seed: int, selector: Callable[..., Masks], target: float, steps: int
) -> None:
    model, data = small(seed)
    before = model_digest(model)
    shares = even_shares(target, steps)
    found = list(iterative(model, Method(by_place, selector), shares, data.images[:1]))
    check_steps(model, found, shares)
    units = sum(len(mask) for mask in found[-1].masks.values())
    for step in found:
        assert not step.returned
        assert step.exchanged is None
        assert step.removed_share <= step.share + 1e-9
        if selector is everywhere:
            assert step.removed_share > step.share - 1 / units - 1e-9
        expected = prune(model, step.masks, data.images)
        assert model_digest(step.network) == model_digest(expected)
    assert model_digest(model) == before


def test_every_scoring_sees_the_network_as_the_step_before_left_it() -> None:
    model, data = small()
    seen: list[tuple[str, Masks]] = []

    def note(network: nn.Module, masks: Masks) -> Scores:
        seen.append((model_digest(network), masks))
        # Removed units are praised: the schedule must not believe it.
        return {layer: values + 100.0 * ~masks[layer] for layer, values in by_norm(network, masks).items()}

    steps = list(iterative(model, Method(note, in_each), (0.2, 0.4, 0.6), data.images[:1]))
    assert seen[0][0] == model_digest(model)
    assert [digest for digest, _ in seen[1:]] == [model_digest(step.network) for step in steps[:-1]]
    assert all(masks is step.masks for (_, masks), step in zip(seen[1:], steps, strict=False))
    plain = list(iterative(model, PLAIN, (0.2, 0.4, 0.6), data.images[:1]))
    for step, expected in zip(steps, plain, strict=True):
        assert all(np.array_equal(step.masks[layer], mask) for layer, mask in expected.masks.items())
        assert step.scores is not None
        assert max(step.scores["0"]) < 50


def test_one_shot_removes_all_at_once_and_an_earlier_run_can_be_gone_on_with() -> None:
    model, data = small()
    (once,) = one_shot(model, PLAIN, 0.5, data.images[:1])
    assert {layer: int(mask.sum()) for layer, mask in once.masks.items()} == {"0": 3, "4": 4, "9": 4}
    (first,) = one_shot(model, PLAIN, 0.3, data.images[:1])
    (second,) = one_shot(model, PLAIN, 0.5, data.images[:1], masks=first.masks)
    straight = list(iterative(model, PLAIN, (0.3, 0.5), data.images[:1]))
    assert model_digest(second.network) == model_digest(straight[-1].network)
    some = {layer: first.masks[layer] for layer in ("0", "9")}
    (part,) = one_shot(model, PLAIN, 0.5, data.images[:1], masks=some)
    assert list(part.masks) == ["0", "9"]


def test_a_selection_that_would_keep_what_is_gone_brings_nothing_back() -> None:
    model, data = small()
    (first,) = one_shot(model, PLAIN, 0.3, data.images[:1])
    whole = {layer: np.ones_like(mask) for layer, mask in first.masks.items()}
    (second,) = one_shot(model, Method(by_norm, lambda s, m, p: whole), 0.5, data.images[:1], masks=first.masks)
    assert counts(second.masks) == counts(first.masks)
    assert second.returned == {}


def test_a_step_is_worked_when_it_is_asked_for() -> None:
    model, data = small()
    seen: list[int] = []
    method = Method(lambda network, masks: seen.append(1) or by_norm(network, masks), in_each)
    walk = iterative(model, method, (0.2, 0.4), data.images[:1])
    assert seen == []
    next(walk)
    assert seen == [1]


def test_exchange_brings_units_back_and_the_step_says_which(digits: Dataset, trained: nn.Module) -> None:
    images, labels = digits.train.images[:200], digits.train.labels[:200]
    shares = even_shares(0.8, 8)
    plain = list(iterative(trained, PLAIN, shares, images[:1]))
    method = Method(by_norm, in_each, exchange=lambda model, masks: exchange(model, masks, images, labels))
    better = list(iterative(trained, method, shares, images[:1]))
    check_returned = [step.returned for step in better]
    assert any(check_returned)
    for one, other in zip(plain, better, strict=True):
        assert counts(one.masks) == counts(other.masks)
        assert other.exchanged is not None
        assert other.masks is other.exchanged.masks
        measured = evaluate(other.network, Split(images, labels))
        assert measured.loss == pytest.approx(other.exchanged.loss_after, abs=1e-5)
    for earlier, later in pairwise(better):
        for layer, mask in later.masks.items():
            assert later.returned.get(layer, ()) == tuple(np.flatnonzero(mask & ~earlier.masks[layer]).tolist())
    accuracies = [evaluate(steps[-1].network, digits.validation).accuracy for steps in (plain, better)]
    assert accuracies[1] > accuracies[0]


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
        return exchange(whole, masks, data.images, data.labels, tries=0)

    method = Method(by_norm, in_each, exchange=watch)
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


def test_what_follows_a_removal_is_scored_next() -> None:
    model, data = small()
    scored: list[nn.Module] = []

    def shift(network: nn.Module, masks: Masks) -> nn.Module:
        with torch.no_grad():
            return fit(network, data, data, FitSettings(epochs=0)).model.apply(nudge)

    def nudge(module: nn.Module) -> None:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 1.0

    def note(network: nn.Module, masks: Masks) -> Scores:
        scored.append(network)
        return by_norm(network, masks)

    first, _ = iterative(model, Method(note, in_each, after=shift), (0.3, 0.6), data.images[:1])
    kept = torch.from_numpy(first.masks["0"])
    mean = first.network.get_submodule("1").running_mean
    assert torch.equal(mean[kept], model[1].running_mean[kept] + 1.0)
    assert not mean[~kept].any()
    assert scored[1] is first.network


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


def test_even_shares_end_at_the_target() -> None:
    assert even_shares(0.8, 4) == pytest.approx((0.2, 0.4, 0.6, 0.8))
