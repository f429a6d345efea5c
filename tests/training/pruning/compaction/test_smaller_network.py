from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.training.compacting import check
from tests.training.networks import (
    SIDE,
    Bypassed,
    Forked,
    Functional,
    Inverted,
    Residual,
    Series,
    chains,
    compact_by_hand,
    drawn_masks,
    example,
    mixed,
    stir,
)
from training import build
from training.digests import model_digest
from training.errors import MaskError, UnsupportedGraph
from training.pruning import consumers, hold_at_zero, prune, removal, removed_entries
from training.pruning.compaction import compact
from training.pruning.compaction.layer_surgery import PlacedConv2d, PlacedLinear


@settings(max_examples=15, deadline=None)
@given(chains(), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_a_chain_equals_the_masked_one_and_has_the_weights_of_the_one_compacted_by_hand(
    model: nn.Sequential, seed: int, keep: float
) -> None:
    compacted = check(model, seed, keep)
    masks = drawn_masks(model, list(consumers(model, example(model))), seed, keep)
    by_hand = compact_by_hand(model, masks)
    assert list(compacted.state_dict()) == list(model.state_dict())
    assert model_digest(compacted) == model_digest(by_hand)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([Functional, Residual, Forked, Series]), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_branches_sums_and_concatenations_keep_their_ways(kind: type[nn.Module], seed: int, keep: float) -> None:
    torch.manual_seed(seed)
    check(stir(kind(), seed), seed, keep)


class Block(nn.Module):
    """A stem, then residual sums around two convolutions with BatchNorm, before or after the ReLU."""

    def __init__(self, norm_last: bool, blocks: int, width: int) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)
        self.first = nn.ModuleList(nn.Conv2d(width, width + 1, 3, padding=1) for _ in range(blocks))
        self.norm = nn.ModuleList(nn.BatchNorm2d(width + 1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv2d(width + 1, width, 3, padding=1) for _ in range(blocks))
        self.pool, self.output, self.norm_last = nn.AvgPool2d(2), nn.Linear(width * 9, 3), norm_last

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        for first, norm, second in zip(self.first, self.norm, self.second, strict=True):
            y = norm(torch.relu(first(x))) if self.norm_last else torch.relu(norm(first(x)))
            x = x + torch.relu(second(y))
        return self.output(torch.flatten(self.pool(x), 1))


@settings(max_examples=10, deadline=None)
@given(st.booleans(), st.integers(1, 2), st.integers(2, 5), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_residual_networks_equal_the_masked_ones(
    norm_last: bool, blocks: int, width: int, seed: int, keep: float
) -> None:
    torch.manual_seed(seed)
    check(stir(Block(norm_last, blocks, width), seed), seed, keep)


def test_units_that_a_sum_ties_leave_plain_layers_behind() -> None:
    compacted = check(stir(Block(False, 2, 4), 0), masks={"stem": np.arange(4) > 1, "first.0": np.arange(5) > 1})
    kinds = {type(part) for part in compacted.modules()}
    assert kinds == {Block, nn.ModuleList, nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.Linear}
    assert compacted.second[0].weight.shape == (2, 3, 3, 3)
    assert compacted.second[1].weight.shape == (2, 5, 3, 3)
    assert compacted.output.in_features == 2 * 9


def test_units_are_put_back_where_a_sum_with_others_needs_their_places() -> None:
    compacted = check(stir(Bypassed(), 0), masks={"first": np.arange(5) > 1, "second": np.arange(4) > 1})
    assert type(compacted.first) is nn.Linear
    assert isinstance(compacted.second, PlacedLinear)
    assert compacted.second.reads is None
    assert compacted.second.weight.shape == (2, 3)
    assert compacted.output.in_features == 4


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 2), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_depthwise_convolutions_go_with_the_units_they_carry(each: int, seed: int, keep: float) -> None:
    torch.manual_seed(seed)
    compacted = check(stir(Inverted(each=each), seed), seed, keep)
    assert type(compacted.first_deep) is nn.Conv2d
    assert compacted.first_deep.groups == compacted.first_wide.out_channels == compacted.first_norm.num_features


@pytest.mark.parametrize("name", ["fc3", "lenet5"])
def test_built_in_networks_become_plain_small_ones(name: str) -> None:
    model = build(name, input_shape=(1, 28, 28), classes=10, seed=0).eval()
    model.input_shape = (1, 28, 28)
    compacted = check(model)
    kinds = {type(part) for part in compacted.modules()}
    assert kinds <= {nn.Sequential, nn.Flatten, nn.Linear, nn.ReLU, nn.Conv2d, nn.AvgPool2d}
    assert list(compacted.state_dict()) == list(model.state_dict())


class Written(nn.Module):
    """A forward that counts on widths: a view by numbers, a factor for each map."""

    def __init__(self, view: bool, factor: bool) -> None:
        super().__init__()
        self.first, self.second, self.output = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3), nn.Linear(3 * 64, 3)
        self.view, self.factor = view, factor
        self.factors = nn.Parameter(torch.rand(1, 4, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x * self.factors if self.factor else x))
        return self.output(x.view(-1, 192) if self.view else x.flatten(1))


@pytest.mark.parametrize(
    ("view", "factor", "placed"),
    [
        (False, False, set()),
        (True, False, {"second", "output"}),  # the one puts its units back, the other picks them out
        (False, True, {"first", "second"}),
        (True, True, {"first", "second", "output"}),
    ],
)
def test_a_forward_that_counts_on_widths_gets_its_units_in_their_places(
    view: bool, factor: bool, placed: set[str]
) -> None:
    torch.manual_seed(0)
    masks = {"first": np.arange(4) % 2 == 0, "second": np.arange(3) > 0}
    compacted = check(Written(view, factor).eval(), masks=masks)
    assert {name for name, part in compacted.named_modules() if isinstance(part, PlacedConv2d | PlacedLinear)} == placed


class Insisting(nn.Module):
    """A forward that reads a layer's weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(SIDE * SIDE, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        return self.output(x) + functional.pad(self.first.weight, (0, 3 - SIDE * SIDE)).sum(0) + self.first.bias[3]


def test_a_forward_that_no_smaller_layer_suits_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedGraph, match="Insisting cannot be compacted: its forward fails with fewer units in"
    ) as e:
        compact(Insisting(), {"first": np.arange(4) < 2}, torch.zeros(1, 1, SIDE, SIDE))
    assert "\n" not in str(e.value)


class Peeking(nn.Module):
    """Adds the mean of a layer's weights, which a smaller layer does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(SIDE * SIDE, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.first(x.flatten(1)))) + self.first.weight.mean()


def test_a_compact_network_that_computes_something_else_is_refused() -> None:
    model = Peeking()
    nn.init.ones_(model.first.weight)
    with pytest.raises(UnsupportedGraph, match=r"Peeking cannot be compacted: the outputs differ by"):
        compact(model, {"first": np.arange(4) < 2}, torch.zeros(1, 1, SIDE, SIDE))


@pytest.mark.parametrize("model", [mixed(), stir(Block(True, 2, 3), 1), mixed(seed=2)])
def test_a_step_of_training_moves_the_compact_network_as_the_masked_one(model: nn.Module) -> None:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # else each network draws its own
    images, labels = example(model, 16), torch.arange(16) % 3
    masks = drawn_masks(model, list(consumers(model, images)), seed=3)
    zeros = removed_entries(model, masks, images)
    pair = [prune(model, masks, images).train(), compact(model, masks, images).train()]
    for network in pair:
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimiser.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimiser.step()
            if network is pair[0]:
                hold_at_zero(network, zeros)
        network.eval()
    drawn = example(model, 50, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(pair[1](drawn), pair[0](drawn), atol=1e-4, rtol=1e-4)


def test_a_compact_network_is_pickled_copied_and_moved_to_another_precision() -> None:
    model = stir(Block(True, 2, 3), 1)
    compacted = check(model)
    images = example(model)
    again = pickle.loads(pickle.dumps(compacted))
    assert torch.equal(again(images), compacted(images))
    torch.testing.assert_close(again.double()(images.double()).float(), compacted(images))


def test_modes_frozen_weights_and_the_generator_are_as_they_were() -> None:
    model = mixed().train()
    model[4].weight.requires_grad = False
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    compacted = compact(model, {"0": np.arange(6) % 3 > 0, "4": np.arange(8) % 2 == 0}, example(model))
    assert torch.equal(torch.rand(3), expected)
    assert all(part.training for part in compacted.modules())
    assert not compacted[4].weight.requires_grad
    assert compacted[0].weight.requires_grad


def test_a_layer_with_two_names_is_replaced_under_both() -> None:
    model = Residual().eval()
    model.other = model.first
    compacted = check(model, masks={"first": np.array([True, False, True])})
    assert compacted.other is compacted.first


def test_a_compact_network_can_be_compacted_further() -> None:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0)
    images = torch.zeros(1, 1, 28, 28)
    once = compact(model, {"conv2": np.arange(16) < 12}, images)
    twice = compact(once, {"conv2": np.arange(12) >= 4, "fc1": np.arange(120) < 60}, images)
    both = {"conv2": (np.arange(16) >= 4) & (np.arange(16) < 12), "fc1": np.arange(120) < 60}
    assert model_digest(twice) == model_digest(compact(model, both, images))


def test_masks_that_keep_everything_change_nothing() -> None:
    model = mixed()
    assert model_digest(check(model, masks={"0": np.ones(6, dtype=bool)})) == model_digest(model)
    assert model_digest(check(model, masks={})) == model_digest(model)


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MaskError, match="one bool for each of its 6 units"):
        compact(mixed(), {"0": np.ones(5, dtype=bool)}, example(mixed()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11_bn"])
def test_networks_of_torchvision_equal_the_masked_ones(name: str) -> None:
    from torchvision import models

    torch.manual_seed(0)
    model = stir(getattr(models, name)(weights=None, num_classes=10), 0)
    images = torch.rand(1000 if name == "resnet18" else 50, 3, 32, 32)
    masks = drawn_masks(model, list(consumers(model, images[:1])), 0)
    compacted, masked = compact(model, masks, images[:1]), prune(model, masks, images[:1])
    account = removal(model, masks, images[:1])
    assert sum(value.numel() for value in compacted.parameters()) == account.parameters_after
    with torch.no_grad():
        for part in images.split(50):
            expected = masked(part)
            # the stirred BatchNorms let the outputs grow: of their scale, as float32 has it
            assert float((compacted(part) - expected).abs().max() / expected.abs().max().clamp(min=1)) <= 1e-5
