from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.training.networks import (
    Bypassed,
    Forked,
    Functional,
    Inverted,
    Residual,
    Series,
    chains,
    drawn_masks,
    example,
    mixed,
)
from training import build
from training.cost import cost_terms
from training.errors import SelectionError, UnsupportedGraph
from training.pruning import Masks, consumers, removal


def total(terms: tuple[tuple[str | None, str | None, float], ...], masks: Masks) -> float:
    kept = {layer: int(mask.sum()) for layer, mask in masks.items()} | {None: 1}
    return sum(cost * kept[producer] * kept[consumer] for producer, consumer, cost in terms)


def assert_exact(model: nn.Module, layers: list[str], seed: int, keep: float) -> None:
    images = example(model)
    masks = drawn_masks(model, layers, seed, keep)
    account = removal(model, masks, images)
    assert total(cost_terms(model, layers, images), masks) == account.parameters_after
    assert total(cost_terms(model, layers, images, "multiply_adds"), masks) == account.multiply_adds_after


@settings(max_examples=40, deadline=None)
@given(chains(), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]), st.data())
def test_terms_sum_to_the_account_of_any_masks_of_some_layers(
    model: nn.Sequential, seed: int, keep: float, data: st.DataObject
) -> None:
    names = list(consumers(model, example(model)))
    assert_exact(model, data.draw(st.lists(st.sampled_from(names), unique=True)), seed, keep)


class Dense(nn.Module):
    """Each block reads all before it; a norm over all of them, and the units of one both alone and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 1), nn.Conv2d(7, 5, 1)
        self.norm, self.output = nn.BatchNorm2d(7), nn.Linear(5 * 100, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.second(a))
        return self.output(torch.relu(self.third(self.norm(torch.cat([b, a], 1)))).flatten(1))


NETWORKS = {
    "functional": (Functional(), ["first", "wide", "deep"]),
    "residual": (Residual(), ["first"]),
    "bypassed": (Bypassed(), ["first", "second"]),
    "inverted": (Inverted(each=2), ["stem", "first_wide", "last"]),
    "dense": (Dense(), ["first", "second", "third"]),
    "forked": (Forked(), ["left", "right", "after"]),
    "series": (Series(), ["first"]),
    "series' second": (Series(), ["second"]),
    "grouped inputs": (mixed(), ["0", "9"]),
    "grouped outputs": (mixed(), ["4", "9"]),
    "none": (mixed(), []),
}


@pytest.mark.parametrize("name", NETWORKS)
@given(st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
@settings(max_examples=10, deadline=None)
def test_terms_are_exact_through_joins_sums_norms_and_groups(name: str, seed: int, keep: float) -> None:
    assert_exact(*NETWORKS[name], seed, keep)


def test_lenet5_by_hand() -> None:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0)
    terms = cost_terms(model, ["conv2", "fc1"], torch.zeros(1, 1, 28, 28))
    assert set(terms) == {
        (None, None, 156.0 + 84 + 84 * 10 + 10),
        (None, "conv2", 151.0),
        ("conv2", "fc1", 16.0),
        (None, "fc1", 1.0),
        ("fc1", None, 84.0),
    }


def test_a_grouped_convolution_that_may_lose_inputs_and_outputs_is_refused() -> None:
    with pytest.raises(UnsupportedGraph, match="layer '4' has 2 groups and both its inputs \\('0'\\) and its outputs"):
        cost_terms(mixed(), ["0", "4"], example(mixed()))
    with pytest.raises(SelectionError, match="what='seconds' is unknown"):
        cost_terms(mixed(), ["0"], example(mixed()), "seconds")
