"""Programs of a score stage, and what each is about."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import formulation
import training
from flows.adapters.aggregation import aggregate_sets
from flows.adapters.programs import (
    ProgramSpec,
    block_instance,
    blocks_of,
    by_block,
    longest_first,
    programs_of,
    whole_instance,
    without_heads,
)
from flows.config.settings import Settings
from flows.errors import SettingsError
from training import Block, BlockError

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 3
SETTINGS = Settings(blocks="auto", model="vgg7@0.1", gate="linear", gap=1e-6)

# Network, shape of an image, seconds of every block's program (`pattern`, heads held) as they were measured.
MEASURED = [
    (
        "vgg16@0.25", (3, 32, 32),  # 200 images
        {
            "conv1": 2.1, "conv2": 6.0, "conv3": 1.5, "conv4": 3.3, "conv5": 1.4, "conv6": 1.4, "conv7": 2.0,
            "conv8": 1.1, "conv9": 1.3, "conv10": 1.7, "conv11": 0.7, "conv12": 0.7, "conv13": 0.9,
        },
    ),
    (
        "vgg16@0.25", (3, 32, 32),  # 500 images
        {
            "conv1": 6.9, "conv2": 22.1, "conv3": 3.8, "conv4": 13.6, "conv5": 2.4, "conv6": 2.9, "conv7": 4.5,
            "conv8": 2.0, "conv9": 2.4, "conv10": 3.4, "conv11": 1.0, "conv12": 1.0, "conv13": 1.7,
        },
    ),
    (
        "vgg16", (3, 32, 32),  # 10 images
        {
            "conv1": 0.54, "conv2": 3.08, "conv3": 1.42, "conv4": 2.67, "conv5": 1.36, "conv6": 3.09, "conv7": 2.00,
            "conv8": 1.36, "conv9": 3.18, "conv10": 1.69, "conv11": 0.49, "conv12": 0.57, "conv13": 2.85,
        },
    ),
    ("vgg7@0.5", (1, 28, 28), {"conv1": 51.7, "conv2": 20.4, "conv3": 14.6, "conv4": 127.9}),  # 200 images
]  # fmt: skip


def made(name: str) -> nn.Module:
    return training.build(name, input_shape=(3, 16, 16), classes=3, seed=0).eval()


def cut(name: str, cuts: str = "auto") -> tuple[nn.Module, tuple[Block, ...]]:
    network = made(name)
    return network, blocks_of(Settings(blocks=cuts, model=name), network, IMAGES)


def heads_of(blocks: tuple[Block, ...]) -> dict[str, nn.Module]:
    return {block.name: training.make_head(block, 3, seed=1).eval() for block in blocks[:-1]}


@pytest.mark.parametrize("name", ["lenet5", "vgg7@0.1", "resnet20@0.5", "torchvision:resnet18"])
def test_the_blocks_together_score_the_layers_that_the_whole_network_scores(name: str) -> None:
    network, blocks = cut(name)
    found: dict[str, int] = {}
    for block in blocks:
        last = block is blocks[-1]
        whole = block.module if last else training.headed(block, training.make_head(block, 3, seed=0))
        found |= without_heads(formulation.outline(whole.eval(), torch.zeros(1, *block.reads)).units)
    assert found == formulation.outline(network, IMAGES).units


def test_a_program_is_solved_for_each_set_block_and_class() -> None:
    network, blocks = cut("vgg7@0.1")
    units = formulation.outline(network, IMAGES).units
    settings = SETTINGS.model_copy(update={"by_class": True})
    programs = programs_of(settings, 2, 3, blocks, units)
    names = [block.name for block in blocks]
    assert len(programs) == len(set(programs)) == 2 * 3 * len(blocks)
    assert {(each.number, each.block, each.place, each.label) for each in programs} == {
        (number, name, names.index(name), label) for number in (1, 2) for name in names for label in range(3)
    }
    assert programs_of(Settings(), 2, 3, (), units) == [ProgramSpec(1), ProgramSpec(2)]


@pytest.mark.parametrize(("name", "shape", "seconds"), MEASURED)
def test_two_workers_that_take_the_longest_first_end_close_to_the_best_schedule(
    name: str, shape: tuple[int, int, int], seconds: dict[str, float]
) -> None:
    network = training.build(name, input_shape=shape, classes=10, seed=0).eval()
    example = torch.zeros(1, *shape)
    blocks = blocks_of(Settings(blocks="auto", model=name), network, example)
    assert {block.name for block in blocks} == set(seconds)
    busy = [0.0, 0.0]
    for block in longest_first(blocks, formulation.outline(network, example).units):
        busy[busy.index(min(busy))] += seconds[block.name]
    assert max(busy) <= 1.05 * max(sum(seconds.values()) / 2, *seconds.values())


def test_a_block_without_a_scored_layer_has_no_program() -> None:
    _network, blocks = cut("resnet20@0.5", "stage1.block2.conv1,stage1.block3.conv1")
    units = dict.fromkeys(blocks[1].layers, 4)
    assert [each.block for each in programs_of(SETTINGS, 1, 3, blocks, units)] == [blocks[1].name]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (ProgramSpec(3), "set 3"),
        (ProgramSpec(1, "conv2", 1), "set 1, conv2"),
        (ProgramSpec(1, "conv2", 1, 7), "set 1, conv2, class 7"),
        (ProgramSpec(2, label=0), "set 2, class 0"),
    ],
)
def test_a_program_says_what_it_is_about(program: ProgramSpec, words: str) -> None:
    assert str(program) == words


@pytest.mark.parametrize("held", [True, False])
def test_the_scores_of_a_block_are_those_of_its_own_program(held: bool) -> None:
    _, blocks = cut("vgg7@0.1")
    heads = heads_of(blocks)
    settings = SETTINGS.model_copy(update={"head_units": "held" if held else "scored"})
    read = training.represent(blocks, IMAGES)
    instance = block_instance(settings, blocks, heads, blocks[1].name, read[blocks[1].name], LABELS)
    solution = formulation.score(instance.network, instance.images, instance.labels, instance.settings)
    own = without_heads(solution.scores)
    assert set(own) == {"conv2"}
    assert set(solution.scores) - set(own) == (set() if held else set(training.head_layers()))
    with torch.no_grad():
        assert torch.equal(
            instance.network(instance.images), heads[blocks[1].name](blocks[1].module(read[blocks[1].name]))
        )


def test_the_last_block_has_the_networks_own_classifier() -> None:
    network, blocks = cut("vgg7@0.1")
    read = training.represent(blocks, IMAGES)[blocks[-1].name]
    instance = block_instance(SETTINGS, blocks, {}, blocks[-1].name, read, LABELS)
    with torch.no_grad():
        assert torch.allclose(instance.network(read), network(IMAGES), atol=1e-6)
    assert instance.settings.held == ()


def test_a_radius_is_that_of_a_box_around_what_the_block_reads_whatever_its_range() -> None:
    _, blocks = cut("vgg7@0.1")
    settings = SETTINGS.model_copy(update={"gate": "published", "radius": 1e-4})
    read = training.represent(blocks, IMAGES)
    first, second = (
        block_instance(settings, blocks, heads_of(blocks), block.name, read[block.name], LABELS) for block in blocks[:2]
    )
    assert first.settings.pixel_range == (0.0, 1.0)
    assert float(second.images.max()) > 1
    solution = formulation.score(second.network, second.images, second.labels, second.settings)
    assert solution.certificate.checked


def test_solutions_together_are_the_mean_over_sets_and_classes_of_the_merged_blocks() -> None:
    _, blocks = cut("vgg7@0.1")
    heads, read = heads_of(blocks), training.represent(blocks, IMAGES)
    solved = []
    for label in range(3):
        chosen = label == LABELS
        for place, block in enumerate(blocks):
            instance = block_instance(SETTINGS, blocks, heads, block.name, read[block.name][chosen], LABELS[chosen])
            solution = formulation.score(instance.network, instance.images, instance.labels, instance.settings)
            solved.append((ProgramSpec(1, block.name, place, label), solution))
    found = aggregate_sets(solved)
    assert list(found.scores) == ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2"]
    for layer, values in found.scores.items():
        each = [solution.scores[layer] for _, solution in solved if layer in solution.scores]
        np.testing.assert_allclose(values, np.mean(each, axis=0))
    assert len(found.certificates) == len(solved)


def test_a_network_that_has_nothing_to_cut_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"model=fc3 has no convolution .* give blocks=whole"):
        cut("fc3")


def test_a_cut_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(BlockError, match=r"'conv33': .*did you mean 'conv3'"):
        cut("vgg7@0.1", "conv2,conv33")


def test_a_whole_network_has_one_program_of_all_layers() -> None:
    assert not by_block(Settings())
    network = made("lenet5")
    assert whole_instance(Settings(), network, IMAGES, LABELS).network is network


def test_the_program_of_the_guide_scores_every_layer() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guides" / "deep-networks.md").read_text()
    [code] = [part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "merged_scores" in part]
    model = training.build("vgg7@0.1", input_shape=(1, 28, 28), classes=10, seed=0).eval()
    data = training.load("digits", root=None, seed=0)
    names = {"model": model, "data": data, "images": data.validation.images[:9], "labels": data.validation.labels[:9]}
    exec(code, names)
    assert set(names["scores"]) == set(formulation.outline(model, data.test.images[:1]).units)


class Bypassing(nn.Module):
    """A stem, a ReLU that is added to what it reads, another convolution; the second layer's units are the stem's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second, self.third = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3)
        self.output = nn.Linear(2 * 144, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.second(x))
        return self.output(torch.relu(self.third(x)).flatten(1))


def test_a_layer_whose_units_are_an_earlier_blocks_is_not_scored_again() -> None:
    torch.manual_seed(0)
    network = Bypassing().eval()
    blocks = training.split(network, IMAGES, ["second"])
    assert [block.followers for block in blocks] == [(), ("second",)]
    read = torch.relu(network.stem(IMAGES)).detach()
    last = block_instance(SETTINGS, blocks, {}, "second", read, LABELS)
    assert last.settings.held == ("second",)
    solution = formulation.score(last.network, last.images, last.labels, last.settings)
    assert list(solution.scores) == ["third"]
    assert set(solution.scores) <= set(formulation.outline(network, IMAGES).units)
