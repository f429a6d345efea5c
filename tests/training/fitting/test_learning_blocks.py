"""A block and its head: what learns gets gradients and steps, what does not stays as it is."""

import pytest
import torch
from torch import nn

from training import FitSettings
from training.data.splits import Split
from training.fitting.blocks import Block, split
from training.fitting.learning_blocks import accuracies_of, learning_block
from training.fitting.optimisation import make_feed

SETTINGS = FitSettings(epochs=1, batch_size=8)


@pytest.fixture
def images() -> Split:
    draw = torch.Generator().manual_seed(0)
    return Split(torch.rand(16, 1, 4, 4, generator=draw), torch.arange(16) % 3)


@pytest.fixture
def blocks(images: Split) -> list[Block]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return list(split(network, images.images[:1], ["3", "5"]))


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().ravel().clone() for each in module.parameters()])


@pytest.mark.parametrize(
    ("learns", "blocks_learn", "block_moves", "head_moves"),
    [(True, True, True, True), (True, False, False, True), (False, True, False, False)],
)
def test_a_step_moves_what_learns_alone(
    images: Split, blocks: list[Block], learns: bool, blocks_learn: bool, block_moves: bool, head_moves: bool
) -> None:
    head = nn.Linear(6, 3)
    made = learning_block(blocks[0], head, learns, SETTINGS, blocks_learn)
    made.to_mode(learning=True)
    feed = make_feed(images, SETTINGS, torch.device("cpu"), torch.float32)
    before = weights(made.block), weights(head)
    batch = next(iter(feed.epoch(1)))
    values, loss, right = made.learn(batch.images, batch, mixed=False)
    assert not values.requires_grad
    assert not loss.requires_grad
    assert 0 <= int(right) <= len(batch)
    assert torch.equal(weights(made.block), before[0]) != block_moves
    assert torch.equal(weights(head), before[1]) != head_moves


def test_accuracies_are_of_every_blocks_classifier_and_values_that_are_not_finite_are_seen(
    images: Split, blocks: list[Block]
) -> None:
    parts = [
        learning_block(block, nn.Linear(6, 3) if k == 0 else None, False, SETTINGS, True)
        for k, block in enumerate(blocks)
    ]
    parts[0].head.bias.data[:] = torch.tensor([0.0, 0.0, 1e6])
    accuracies, finite = accuracies_of(parts, images, torch.device("cpu"), batch_size=5)
    assert float(accuracies[0]) == pytest.approx(5 / 16)  # labels 2 are a third, less one
    assert finite.tolist() == [True] * len(parts)
    parts[0].head.bias.data[0] = torch.nan
    assert accuracies_of(parts, images, torch.device("cpu"))[1].tolist() == [False] + [True] * (len(parts) - 1)
