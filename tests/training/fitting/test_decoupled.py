"""Blocks that learn alone, and heads that learn on a network that does not."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from training import (
    BlockError,
    FitSettings,
    FitSettingsError,
    TrainingDiverged,
    evaluate,
    fit,
    fit_blocks,
    fit_heads,
    headed,
    is_of_head,
    load,
    make_head,
    model_digest,
    split,
)
from training.data.splits import Split
from training.models import build

ONE = FitSettings(epochs=1)


@pytest.fixture(scope="module")
def data() -> tuple[Split, Split]:
    dataset = load("digits", root=None, seed=0, image_size=16)
    return dataset.train, dataset.validation


@pytest.fixture(scope="module")
def network() -> nn.Module:
    layers = []
    features = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for width in (6, 8, 8):
            layers += [nn.Conv2d(features, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            features = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 4, 10)).eval()


@pytest.fixture(scope="module")
def heads(network: nn.Module, data: tuple[Split, Split]) -> dict[str, nn.Module]:
    return {block.name: make_head(block, 10, seed=1) for block in split(network, data[0].images[:1])[:-1]}


def state(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.split(".")[0] in prefix.split()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    assert first
    return all(torch.equal(first[name], second[name]) for name in first)


MODULES = {"0": "0 1", "4": "4 5", "8": "8 9 13"}
MOVED = FitSettings(epochs=1, augment="flip_crop", rate_schedule="cosine", precision="mixed")


@pytest.mark.parametrize("settings", [ONE, MOVED], ids=["plain", "moved"])
@pytest.mark.parametrize("chosen", MODULES)
def test_training_one_block_leaves_every_other_bit_identical(chosen, settings, network, heads, data) -> None:
    fitted = fit_blocks(network, heads, *data, settings, learning=[chosen])
    for name, modules in MODULES.items():
        assert same(state(network, modules), state(fitted.model, modules)) == (name != chosen)
    for name, head in heads.items():
        assert same(head.state_dict(), fitted.heads[name].state_dict()) == (name != chosen)


@pytest.mark.parametrize("settings", [ONE, MOVED], ids=["plain", "moved"])
def test_heads_learn_on_a_network_that_stays_as_it_was(settings, network, heads, data) -> None:
    before, seen = model_digest(network), []
    settings = replace(settings, epochs=8, learning_rate=0.01)
    fitted = fit_heads(network, heads, *data, settings, callbacks=[seen.append])
    assert model_digest(fitted.model) == model_digest(network) == before
    assert all(parameter.grad is None for model in (network, fitted.model) for parameter in model.parameters())
    assert not any(same(head.state_dict(), fitted.heads[name].state_dict()) for name, head in heads.items())
    assert tuple(seen) == fitted.epochs
    first, last = fitted.epochs[0], fitted.epochs[-1]
    assert all(last.train_loss[name] < first.train_loss[name] for name in heads)
    # Moved images of so few pixels are hard to tell apart.
    times = 2 if settings.augment == "none" else 1.1
    assert all(last.train_accuracy[name] > times * first.train_accuracy[name] for name in heads)
    assert last.validation_accuracy["8"] == first.validation_accuracy["8"] == evaluate(network, data[1]).accuracy


def test_a_network_learns_block_by_block(network, heads, data) -> None:
    fitted = fit_blocks(network, heads, *data, FitSettings(epochs=4, learning_rate=0.01))
    assert evaluate(fitted.model, data[1]).accuracy > 0.85
    assert fitted.epochs[-1].validation_accuracy["8"] == evaluate(fitted.model, data[1]).accuracy
    assert not fitted.model.training


def test_a_block_learns_the_same_whatever_stands_behind_it(network, heads, data) -> None:
    """No gradient reaches a block from another one: the first block with its head is a network by itself."""
    images = data[0].images[:1]
    fitted = fit_blocks(network, heads, *data, ONE)
    later = {**heads, "4": make_head(split(network, images)[1], 10, seed=9)}
    other = fit_blocks(network, later, *data, ONE)
    assert same(state(fitted.model, MODULES["0"]), state(other.model, MODULES["0"]))
    assert same(state(fitted.model, MODULES["4"]), state(other.model, MODULES["4"])) is False


@pytest.mark.parametrize("settings", [ONE, MOVED], ids=["plain", "moved"])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator(settings, network, heads, data) -> None:
    before = torch.random.get_rng_state()
    first, again = (fit_blocks(network, heads, *data, settings) for _ in range(2))
    assert model_digest(first.model) == model_digest(again.model) != model_digest(network)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "changed", [{"augment": "flip_crop"}, {"rate_schedule": "cosine"}, {"precision": "mixed"}], ids=str
)
def test_blocks_and_heads_learn_otherwise_by_each_setting(changed, network, heads, data) -> None:
    few = Split(data[0].images[:256], data[0].labels[:256])
    settings = FitSettings(epochs=1, **changed)
    for trained in (fit_blocks, fit_heads):
        plain, other = (trained(network, heads, few, few, each) for each in (ONE, settings))
        assert not any(same(plain.heads[name].state_dict(), other.heads[name].state_dict()) for name in heads)
        assert {value.dtype for value in other.heads["0"].state_dict().values()} == {torch.float32, torch.int64}
        assert (model_digest(plain.model) == model_digest(other.model)) == (trained is fit_heads)


def test_the_first_block_with_its_head_learns_as_a_network_by_itself(network, heads, data) -> None:
    few = Split(data[0].images[:256], data[0].labels[:256])
    settings = FitSettings(epochs=2, augment="flip_crop", rate_schedule="cosine")
    fitted = fit_blocks(network, heads, few, few, settings)
    # A copy, because a block with its head is put into evaluation mode, and its layers are the network's own.
    copied = copy.deepcopy(network)
    alone = fit(headed(split(copied, few.images[:1])[0], copy.deepcopy(heads["0"])), few, few, settings)
    own = {key: value for key, value in alone.model.state_dict().items() if not is_of_head(key)}
    assert same(alone.model.auxiliary_head.state_dict(), fitted.heads["0"].state_dict())
    assert same(own, state(fitted.model, MODULES["0"]))
    assert [epoch.train_loss["0"] for epoch in fitted.epochs] == pytest.approx([e.train_loss for e in alone.epochs])
    assert [e.train_accuracy["0"] for e in fitted.epochs] == pytest.approx([e.train_accuracy for e in alone.epochs])


def test_heads_that_do_not_belong_to_the_blocks_are_refused(network, heads, data) -> None:
    with pytest.raises(BlockError, match="heads are given for 0, and needed for every block but the last: 0, 4"):
        fit_heads(network, {"0": heads["0"]}, *data, ONE)
    with pytest.raises(BlockError, match="there is no block 'conv': the blocks are 0, 4, 8"):
        fit_blocks(network, heads, *data, ONE, learning=["conv"])


@pytest.mark.parametrize("chosen", MODULES)
def test_a_block_that_diverges_is_named_with_its_epoch(chosen, network, heads, data) -> None:
    settings = FitSettings(epochs=2, learning_rate=1e30, optimiser="sgd")
    with pytest.raises(TrainingDiverged, match=f"training of block '{chosen}' diverged in epoch 1 at .*=1e[+]30: the"):
        fit_blocks(network, heads, *data, settings, learning=[chosen])


def test_weights_lost_in_the_very_last_step_are_noticed(network, heads, data) -> None:
    few = Split(data[0].images[:8], data[0].labels[:8])
    settings = FitSettings(epochs=1, learning_rate=1e38, optimiser="sgd", batch_size=8)
    with pytest.raises(TrainingDiverged, match="training of block '4' diverged in epoch 1"):
        fit_blocks(network, heads, few, few, settings, learning=["4"])


def test_batches_that_a_head_cannot_learn_from_are_refused_before_any_work(network, heads, data) -> None:
    for settings in (FitSettings(batch_size=1), FitSettings(batch_size=1, augment="flip_crop")):
        with pytest.raises(FitSettingsError, match="a batch of one image is too small"):
            fit_heads(network, heads, *data, settings, callbacks=[lambda _: pytest.fail("trained")])


def test_the_deep_networks_learn_block_by_block_too(data) -> None:
    model = build("resnet20", input_shape=(1, 16, 16), classes=10, seed=0)
    cuts = ["stage2.block1.conv1", "stage3.block1.conv1"]
    blocks = split(model, data[0].images[:1], cuts)
    heads = {block.name: make_head(block, 10, seed=0) for block in blocks[:-1]}
    few = Split(data[0].images[:256], data[0].labels[:256])
    fitted = fit_blocks(model, heads, few, few, ONE, cuts=cuts)
    assert set(fitted.epochs[0].train_loss) == {"conv1", *cuts}
    assert model_digest(fitted.model) != model_digest(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("precision", ["auto", "float32", "mixed"])
def test_blocks_and_heads_learn_on_a_card_and_come_back_in_float32(precision, network, heads, data) -> None:
    settings = replace(MOVED, epochs=4, learning_rate=0.01, device="cuda", precision=precision)
    blocks, trained = (fitted(network, heads, *data, settings) for fitted in (fit_blocks, fit_heads))
    assert model_digest(trained.model) == model_digest(network) != model_digest(blocks.model)
    for fitted in (blocks, trained):
        for module in (fitted.model, *fitted.heads.values()):
            assert {(each.device.type, each.dtype) for each in module.parameters()} == {("cpu", torch.float32)}
        assert all(fitted.epochs[-1].train_loss[name] < fitted.epochs[0].train_loss[name] for name in heads)
