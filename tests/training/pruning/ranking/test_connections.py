from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.training.networks import Forked, chains, drawn_masks, example, mixed
from training.data.splits import Split
from training.digests import model_digest
from training.errors import MaskError, SelectionError
from training.fitting.loop import FitSettings, fit
from training.pruning import consumers, hold_at_zero, removed_entries
from training.pruning.ranking import Sensitivity, connection_sensitivity, weakest_connections


def split_of(model: nn.Module, images: int = 9) -> Split:
    return Split(example(model, images, seed=1), torch.arange(images) % 2)


@st.composite
def sensitivities(draw: st.DrawFn) -> Sensitivity:
    """Small arrays with many ties."""
    shapes = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return {f"layer{at}.weight": rng.integers(0, 4, shape).astype(np.float64) for at, shape in enumerate(shapes)}


@settings(max_examples=15, deadline=None)
@given(chains())
def test_sensitivity_is_the_slope_of_the_loss_in_a_factor_on_each_weight(model: nn.Sequential) -> None:
    model = model.double().train()
    split, before = split_of(model), model_digest(model)
    found = connection_sensitivity(model, split, batch_size=4)
    assert model_digest(model) == before
    assert model.training
    weights = {key: value.detach() for key, value in model.named_parameters()}
    factors = {key: torch.ones_like(weights[key], requires_grad=True) for key in found}
    assert set(found) == {key for key in weights if key.endswith("weight") and weights[key].ndim > 1}
    state = {
        **weights,
        **dict(model.named_buffers()),
        **{key: weights[key] * factor for key, factor in factors.items()},
    }
    logits = torch.func.functional_call(model.eval(), state, split.images.double())
    slopes = torch.autograd.grad(cross_entropy(logits, split.labels), list(factors.values()))
    for values, slope in zip(found.values(), slopes, strict=True):
        np.testing.assert_allclose(values, slope.abs().numpy(), rtol=1e-9, atol=1e-12)


def test_a_layer_that_nothing_reads_is_not_sensitive_at_all() -> None:
    torch.manual_seed(0)
    model = Forked()
    model.unread = nn.Linear(2, 2)
    split = Split(torch.rand(4, 1, 12, 12), torch.arange(4) % 2)
    found = connection_sensitivity(model, split)
    assert not found["unread.weight"].any()
    assert all(found[key].any() for key in found if key != "unread.weight")


@given(sensitivities(), st.data())
def test_exactly_the_count_goes_the_weakest_first_and_of_equals_the_last(
    found: Sensitivity, data: st.DataObject
) -> None:
    total = sum(values.size for values in found.values())
    count = data.draw(st.integers(0, total - 1))
    zeros = weakest_connections(found, count)
    assert list(zeros) == [key for key in found if key in zeros]
    assert all(removed.any() and removed.shape == found[key].shape for key, removed in zeros.items())
    gone = [bool(zeros[key].flatten()[at]) if key in zeros else False for key in found for at in range(found[key].size)]
    values = [value for key in found for value in found[key].ravel()]
    by_hand = sorted(range(total), key=lambda at: (values[at], -at))[:count]
    assert sorted(by_hand) == [at for at in range(total) if gone[at]]


@pytest.mark.parametrize("count", [-1, 6, 7])
def test_a_count_that_is_none_or_leaves_nothing_is_refused(count: int) -> None:
    with pytest.raises(SelectionError, match=f"count={count} of 6 .* use 0 to 5"):
        weakest_connections({"a.weight": np.ones((2, 2)), "b.weight": np.ones(2)}, count)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_connections_stay_at_exactly_0_through_momentum_and_weight_decay(optimiser: str) -> None:
    data = Split(torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)
    how = FitSettings(epochs=2, batch_size=8, optimiser=optimiser, weight_decay=0.1, learning_rate=0.01)
    model = fit(mixed(), data, data, how).model
    sensitivity = connection_sensitivity(model, data)
    zeros = weakest_connections(sensitivity, sum(values.size for values in sensitivity.values()) // 2)
    pruned = mixed()
    pruned.load_state_dict(model.state_dict())
    hold_at_zero(pruned, zeros)
    free, held = fit(pruned, data, data, how).model.state_dict(), fit(model, data, data, how, connections=zeros).model
    state = held.state_dict()
    for key, removed in zeros.items():
        assert free[key][removed].any(), "nothing would have moved them: the test shows nothing"
        assert not state[key][removed].any()
        assert not torch.equal(state[key][~removed], model.state_dict()[key][~removed]) or removed.all()
    assert torch.equal(model.state_dict()["0.weight"], fit(model, data, data, FitSettings(epochs=0)).model[0].weight)


def test_masks_and_connections_are_held_together_also_within_one_layer() -> None:
    model = mixed()
    data = Split(torch.rand(20, 1, 12, 12), torch.arange(20) % 3)
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=1)
    of_units = removed_entries(model, masks, data.images)
    zeros = weakest_connections(connection_sensitivity(model, data), 100)
    state = fit(model, data, data, FitSettings(epochs=1), masks=masks, connections=zeros).model.state_dict()
    assert of_units.keys() & zeros.keys()
    assert any(bool((zeros[key] & ~of_units[key]).any()) for key in of_units.keys() & zeros.keys())
    for held in (of_units, zeros):
        for key, removed in held.items():
            assert not state[key][removed].any()


@pytest.mark.parametrize(
    ("zeros", "named"),
    [
        ({"nothing.weight": torch.ones(2, dtype=torch.bool)}, "nothing.weight"),
        ({"0.weight": torch.ones(6, 1, 3, 2, dtype=torch.bool)}, r"of shape \(6, 1, 3, 2\)"),
        ({"0.weight": torch.ones(6, 1, 3, 3)}, "torch.float32"),
    ],
)
def test_connections_that_do_not_fit_the_network_are_refused_before_any_work(
    zeros: dict[str, torch.Tensor], named: str
) -> None:
    data = Split(torch.rand(4, 1, 12, 12), torch.arange(4) % 3)
    with pytest.raises(MaskError, match=named):
        fit(mixed(), data, data, FitSettings(epochs=1), connections=zeros, callbacks=[lambda _: pytest.fail("trained")])
