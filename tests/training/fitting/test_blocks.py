"""Networks cut into blocks, and the heads on top of them."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from formulation import outline
from training.digests import model_digest
from training.errors import BlockError, FitSettingsError
from training.fitting.blocks import Block, split
from training.fitting.heads import head_layers, headed, is_of_head, make_head
from training.models import build
from training.pruning import removal

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def made(name: str) -> nn.Module:
    return build(name, input_shape=(3, 16, 16), classes=5, seed=0).eval()


def chained(blocks: tuple[Block, ...], values: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        assert tuple(values.shape[1:]) == block.reads
        values = block.module(values)
        assert tuple(values.shape[1:]) == block.makes
    return values


@pytest.mark.parametrize(
    ("name", "count"),
    # A residual network is cut before its first residual block and between them, the first convolution apart.
    [("lenet5", 2), ("vgg7", 4), ("vgg16_plain", 13), ("resnet20", 10), ("torchvision:resnet18", 9), ("fc3", 1)],
)
def test_the_blocks_in_a_row_are_the_network(name: str, count: int) -> None:
    model = made(name)
    blocks = split(model, IMAGES)
    with torch.no_grad():
        assert torch.equal(chained(blocks, IMAGES), model(IMAGES))
    assert len(blocks) == count
    weighted = [each for each, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert sorted(layer for block in blocks for layer in block.layers) == sorted(weighted)


@given(st.sets(st.integers(2, 13), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_any_cuts_of_a_series_give_blocks_of_those_names(numbers: set[int]) -> None:
    model = made("vgg16_plain")
    cuts = [f"conv{number}" for number in sorted(numbers)]
    blocks = split(model, IMAGES, cuts[::-1])
    assert [block.name for block in blocks] == ["conv1", *cuts]
    with torch.no_grad():
        assert torch.equal(chained(blocks, IMAGES), model(IMAGES))


def test_a_block_holds_the_layers_of_the_network_themselves() -> None:
    model = made("resnet20")
    for block in split(model, IMAGES):
        for layer in block.layers:
            assert block.module.get_submodule(layer) is model.get_submodule(layer)


def test_cutting_leaves_the_network_as_it_was() -> None:
    model = made("vgg7").train()
    model.get_submodule("norm2").eval()
    before, modes = model_digest(model), [part.training for part in model.modules()]
    split(model, IMAGES)
    assert [part.training for part in model.modules()] == modes
    assert model_digest(model) == before


class Shifted(nn.Module):
    """A constant of the network's own that two blocks read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)
        self.shift = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x)) * self.shift
        return (torch.relu(self.second(x)) * self.shift).mean((2, 3))


def test_a_constant_that_two_blocks_read_is_no_branch() -> None:
    model = Shifted().eval()
    blocks = split(model, IMAGES)
    assert [block.name for block in blocks] == ["first", "second"]
    with torch.no_grad():
        assert torch.equal(chained(blocks, IMAGES), model(IMAGES))


def test_a_cut_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(BlockError, match=r"cut 'conv33': .*did you mean 'conv3'"):
        split(made("vgg7"), IMAGES, ["conv33"])


@pytest.mark.parametrize("first", [nn.BatchNorm2d(3), nn.Dropout(), nn.AvgPool2d(1)])
def test_what_stands_before_the_first_layer_belongs_to_the_first_block(first: nn.Module) -> None:
    layers = {"conv1": nn.Conv2d(3, 4, 3), "relu1": nn.ReLU(), "conv2": nn.Conv2d(4, 2, 3), "pool": nn.Flatten()}
    model = nn.Sequential(OrderedDict({"first": first, **layers})).eval()
    blocks = split(model, IMAGES)
    assert [block.name for block in blocks] == ["conv1", "conv2"]
    with torch.no_grad():
        assert torch.equal(chained(blocks, IMAGES), model(IMAGES))


def test_a_branch_across_a_cut_is_named() -> None:
    with pytest.raises(BlockError, match=r"before 'stage1.block1.conv2' is crossed by a branch: '\w+' behind it reads"):
        split(made("resnet20"), IMAGES, ["stage1.block1.conv2"])


@pytest.mark.parametrize("cuts", [["conv1"], ["conv1", "conv3"]])
def test_a_cut_before_the_first_layer_is_refused(cuts: list[str]) -> None:
    with pytest.raises(
        BlockError, match="before 'conv1' cuts nothing off: no layer stands before it; name a later one"
    ):
        split(made("vgg7"), IMAGES, cuts)


def test_no_cut_parts_a_depthwise_convolution_from_what_it_carries() -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU())
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(200, 3)).eval()
    assert [block.name for block in split(model, IMAGES)] == ["0", "4"]
    with pytest.raises(BlockError, match="a cut before '2' would part a depthwise convolution"):
        split(model, IMAGES, ["2"])


def test_the_same_cut_twice_is_refused() -> None:
    with pytest.raises(BlockError, match="before 'conv2' is named twice"):
        split(made("vgg7"), IMAGES, ["conv2", "conv3", "conv2"])
    with pytest.raises(BlockError, match="are the same: name one of them"):
        split(made("resnet20"), IMAGES, ["stage2.block1.conv1", "stage2.block1.shortcut.conv"])


@pytest.mark.parametrize("name", ["vgg16", "resnet20", "lenet5"])
def test_a_head_makes_logits_of_every_blocks_values_but_the_last(name: str) -> None:
    blocks = split(made(name), IMAGES)
    values = IMAGES
    for block in blocks[:-1]:
        with_head = headed(block, make_head(block, 5, seed=1))
        with torch.no_grad():
            assert with_head(values).shape == (2, 5)
            assert torch.equal(with_head(values), with_head.auxiliary_head(block.module(values)))
            values = block.module(values)
    with pytest.raises(BlockError, match=f"block '{blocks[-1].name}' makes values of shape"):
        make_head(blocks[-1], 5, seed=0)


def test_a_block_with_its_head_has_the_networks_own_layers_under_their_names() -> None:
    network = made("resnet20")
    block = split(network, IMAGES)[3]
    whole = headed(block, make_head(block, 5, seed=1))
    layers = [name for name, layer in whole.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    own = [name for name in layers if not is_of_head(name)]
    assert own == list(block.layers)
    assert all(whole.get_submodule(name) is network.get_submodule(name) for name in own)
    assert [name for name in layers if is_of_head(name)] == [
        f"auxiliary_head.{part}" for part in ("conv", "fc", "output")
    ]


@pytest.mark.parametrize("name", ["vgg7", "resnet20"])
def test_the_multiply_adds_of_all_blocks_are_those_of_the_network(name: str) -> None:
    network = made(name)
    account = removal(network, {}, IMAGES)
    assert sum(block.multiply_adds for block in split(network, IMAGES)) == account.multiply_adds_before


def test_the_activations_of_a_block_are_the_values_that_its_layers_make() -> None:
    network, made_values = made("vgg7"), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda _layer, _read, value, name=name: made_values.update({name: value[0].numel()})
            )
    blocks = split(network, IMAGES)
    network(IMAGES)
    for block in blocks:
        assert block.activations == sum(made_values[layer] for layer in block.layers)


def test_a_heads_hidden_layers_are_those_with_a_relu_behind() -> None:
    block = split(made("vgg7"), IMAGES)[0]
    whole = headed(block, make_head(block, 5, seed=1))
    scored = [name for name in outline(whole, torch.zeros(1, *block.reads)).units if is_of_head(name)]
    assert tuple(scored) == head_layers()


def test_a_network_with_a_child_of_the_heads_name_gets_no_heads() -> None:
    network = nn.Sequential(OrderedDict(auxiliary_head=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), conv=nn.Conv2d(4, 4, 3)))
    block = split(network, IMAGES)[0]
    with pytest.raises(BlockError, match="child 'auxiliary_head', which is the name of block 'auxiliary_head''s head"):
        headed(block, make_head(block, 5, seed=1))


def test_a_head_is_drawn_from_its_seed_alone() -> None:
    block = split(made("vgg7"), IMAGES)[0]
    state = torch.random.get_rng_state()
    first, again, other = (model_digest(make_head(block, 5, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(FitSettingsError, match="classes=1"):
        make_head(block, 1, seed=0)


def test_a_head_pools_to_a_quarter_and_to_two_by_two() -> None:
    block = split(build("vgg7", input_shape=(3, 32, 32), classes=5, seed=0).eval(), torch.zeros(1, 3, 32, 32))[0]
    head = make_head(block, 5, seed=0)
    shapes = []
    values = torch.zeros(1, *block.makes)
    head.eval()
    for part in head:
        values = part(values)
        shapes.append(tuple(values.shape[1:]))
    assert block.makes == (64, 16, 16)
    assert shapes == [*[(64, 4, 4)] * 4, (64, 2, 2), (256,), (64,), (64,), (5,)]
