"""Held units: removed units stay at zero through one's own steps, whatever the optimiser and the form of the masks."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

import critical_neurons as cn
import training
from training import Dataset, MaskError

MASK = np.arange(20) % 3 > 0
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01),
}


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, data: Dataset, count: int = 3) -> None:
    """Somebody's own training."""
    network.train()
    for part in range(count):
        images, labels = data.train.images[part::count], data.train.labels[part::count]
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()


def entries_of(network: nn.Module, digits: Dataset) -> torch.Tensor:
    """All entries that belong to removed units, as one vector."""
    zeros = training.removed_entries(network, {"1": MASK}, digits.train.images[:1])
    state = network.state_dict()
    return torch.cat([state[key][where] for key, where in zeros.items()])


@pytest.mark.parametrize("masks", [MASK, torch.from_numpy(MASK), MASK.tolist()], ids=["numpy", "torch", "list"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("shown", [True, False], ids=["images", "first batch"])
def test_removed_units_are_zero_after_every_step_and_the_others_learn(
    network: nn.Module, digits: Dataset, masks: Any, optimiser: str, shown: bool
) -> None:
    trained = copy.deepcopy(network)
    before = trained[1].weight.detach().clone()
    made = OPTIMISERS[optimiser](trained.parameters())
    with cn.hold(trained, {"1": masks}, digits.train.images if shown else None):
        for _ in range(3):
            steps(trained, made, digits, count=1)
            assert not entries_of(trained, digits).any()
    kept = torch.from_numpy(MASK)
    assert not torch.equal(trained[1].weight[kept], before[kept])


def test_the_outcome_is_that_of_the_same_steps_with_the_entries_set_by_hand(
    network: nn.Module, digits: Dataset
) -> None:
    held, by_hand = copy.deepcopy(network), copy.deepcopy(network)
    zeros = training.removed_entries(by_hand, {"1": MASK}, digits.train.images[:1])
    training.hold_at_zero(by_hand, zeros)
    made = OPTIMISERS["sgd"](by_hand.parameters())
    for _ in range(3):
        steps(by_hand, made, digits, count=1)
        training.hold_at_zero(by_hand, zeros)
    with cn.hold(held, {"1": MASK}):
        made = OPTIMISERS["sgd"](held.parameters())
        for _ in range(3):
            steps(held, made, digits, count=1)
    for one, other in zip(held.state_dict().values(), by_hand.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_once_released_nothing_is_held_and_no_hook_is_left(network: nn.Module, digits: Dataset) -> None:
    trained = copy.deepcopy(network)
    held = cn.hold(trained, {"1": MASK})
    held.release()
    made = OPTIMISERS["sgd"](trained.parameters())
    with cn.hold(trained, {"1": MASK}):
        pass
    steps(trained, made, digits)
    assert entries_of(trained, digits).any()


def test_another_network_trained_meanwhile_is_left_alone(network: nn.Module, digits: Dataset) -> None:
    trained, other = copy.deepcopy(network), copy.deepcopy(network)
    with cn.hold(trained, {"1": MASK}, digits.train.images):
        steps(other, OPTIMISERS["sgd"](other.parameters()), digits)
    assert entries_of(other, digits).any()


def test_batch_norm_and_what_it_remembers_are_held_too(digits: Dataset) -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))
    mask = [True, False, True, True]
    with cn.hold(conv, {"0": mask}):
        steps(conv, OPTIMISERS["sgd"](conv.parameters()), digits)
    emitted = conv[:3](digits.test.images[:10])
    assert not emitted[:, 1].any()
    assert emitted[:, 0].any()
    images = digits.test.images[:10]
    smaller = training.compact(conv.eval(), {"0": np.array(mask)}, images)
    torch.testing.assert_close(smaller(images), conv(images))


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([True], "masks are list"),
        ({"conv": [True]}, "no such Linear"),
        ({"1": [True] * 3}, "one bool for each of its 20 units"),
        ({"1": [1] * 20}, "is int64 of shape"),
        ({"1": [False] * 20}, "removes all 20 units"),
        ({"1": [[True], [True, False]]}, "cannot be read"),
    ],
)
def test_masks_that_do_not_fit_are_refused_in_one_line(network: nn.Module, masks: Any, words: str) -> None:
    with pytest.raises(MaskError, match=words) as raised:
        cn.hold(network, masks)
    assert "\n" not in str(raised.value)


class Named(nn.Module):
    """Images that are given by name, behind another argument or before it."""

    def __init__(self, chain: nn.Module) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, x: torch.Tensor, scale: Any = 1.0) -> torch.Tensor:
        return self.chain(x) * scale


def test_the_first_batch_may_be_given_by_name(network: nn.Module, digits: Dataset) -> None:
    named, mask = Named(copy.deepcopy(network)), torch.from_numpy(MASK)
    images = digits.train.images[:4]
    with cn.hold(named, {"chain.1": MASK}):
        assert torch.equal(named(scale=torch.ones(1), x=images), named(images))
        assert not named.chain[1].weight[~mask].any()
    with cn.hold(named, {"chain.1": MASK}), pytest.raises(training.UnsupportedGraph, match="first batch is list"):
        named(x=[images])


def test_released_before_any_pass_the_network_is_as_it_was(network: nn.Module) -> None:
    trained = copy.deepcopy(network)
    cn.hold(trained, {"1": MASK}).release()
    for one, other in zip(trained.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("masks", [{"1": [True] * 9 + [False]}, {"1": [True, False]}])
def test_masks_of_another_length_are_refused_in_every_pass(
    network: nn.Module, digits: Dataset, masks: dict[str, list[bool]]
) -> None:
    """Units of several rows have shorter masks: without images only a pass tells that these have none."""
    trained, images = copy.deepcopy(network), digits.train.images[:4]
    with cn.hold(trained, masks):
        for _ in range(2):
            with pytest.raises(MaskError, match="one bool for each of its 20 units is needed"):
                trained(images)
    trained(images)
    before = len(_global_optimizer_post_hooks)
    with pytest.raises(MaskError, match="one bool for each of its 20 units is needed"):
        cn.hold(trained, masks, images)
    assert len(_global_optimizer_post_hooks) == before
