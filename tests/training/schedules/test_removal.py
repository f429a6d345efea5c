"""Schedules that remove in steps: what each step sees, removes and says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.scheduled import PLAIN, by_norm, by_place, check_steps, everywhere, in_each, small
from training import (
    Dataset,
    FitSettings,
    Masks,
    Method,
    Scores,
    Split,
    counts,
    evaluate,
    even_shares,
    fit,
    iterative,
    model_digest,
    one_shot,
    prune,
    search_swaps,
)


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
        assert step.swapped is None
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
    method = Method(by_norm, in_each, swap=lambda model, masks: search_swaps(model, masks, images, labels))
    better = list(iterative(trained, method, shares, images[:1]))
    check_returned = [step.returned for step in better]
    assert any(check_returned)
    for one, other in zip(plain, better, strict=True):
        assert counts(one.masks) == counts(other.masks)
        assert other.swapped is not None
        assert other.masks is other.swapped.masks
        measured = evaluate(other.network, Split(images, labels))
        assert measured.loss == pytest.approx(other.swapped.loss_after, abs=1e-5)
    for earlier, later in pairwise(better):
        for layer, mask in later.masks.items():
            assert later.returned.get(layer, ()) == tuple(np.flatnonzero(mask & ~earlier.masks[layer]).tolist())
    accuracies = [evaluate(steps[-1].network, digits.validation).accuracy for steps in (plain, better)]
    assert accuracies[1] > accuracies[0]


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


def test_even_shares_end_at_the_target() -> None:
    assert even_shares(0.8, 4) == pytest.approx((0.2, 0.4, 0.6, 0.8))
