"""Inputs of every block."""

import copy

import pytest
import torch
from torch import nn

from training import DeviceError, FitSettingsError, ModelError, build, model_digest, represent, split

SHAPE = (3, 16, 16)
IMAGES = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0))


def made(name: str = "vgg7@0.25") -> nn.Module:
    return build(name, input_shape=SHAPE, classes=5, seed=0).eval()


@pytest.mark.parametrize("name", ["vgg7@0.25", "resnet20", "fc3"])
def test_every_block_reads_what_the_blocks_before_it_make(name: str) -> None:
    model, values = made(name).double(), IMAGES.double()
    blocks = split(model, IMAGES)
    read = represent(blocks, IMAGES, batch_size=3)
    assert list(read) == [block.name for block in blocks]
    for block in blocks:
        assert read[block.name].shape == (7, *block.reads)
        assert not read[block.name].requires_grad
        torch.testing.assert_close(read[block.name], values)
        values = block.module(values).detach()
    torch.testing.assert_close(values, model(IMAGES.double()).detach())


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_weights_are_as_before_and_values_those_of_evaluation(training: bool) -> None:
    model = made()
    expected = represent(split(model, IMAGES), IMAGES)
    model.train(training)
    model.get_submodule("norm2").train(not training)
    blocks = split(model, IMAGES)
    before, modes = model_digest(model), [part.training for part in model.modules()]
    read = represent(blocks, IMAGES)
    assert [part.training for part in model.modules()] == modes
    assert model_digest(model) == before
    assert all(torch.equal(read[name], expected[name]) for name in expected)


def test_every_image_passes_every_block_once_and_the_last_not_at_all() -> None:
    blocks = split(made(), IMAGES)
    seen = {block.name: 0 for block in blocks}
    for block in blocks:

        def count(_: nn.Module, given: tuple[torch.Tensor], name: str = block.name) -> None:
            seen[name] += len(given[0])

        block.module.register_forward_pre_hook(count)
    represent(blocks, IMAGES, batch_size=2)
    assert list(seen.values()) == [7, 7, 7, 0]


def test_changing_what_was_read_leaves_the_images_alone() -> None:
    images = IMAGES.clone()
    represent(split(made(), images), images)["conv1"].zero_()
    assert torch.equal(images, IMAGES)


def test_values_have_the_type_of_the_weights() -> None:
    read = represent(split(made().double(), IMAGES), IMAGES)
    assert {values.dtype for values in read.values()} == {torch.float64}


def test_images_that_do_not_fit_are_refused() -> None:
    blocks = split(made(), IMAGES)
    for images in (IMAGES[:, :1], IMAGES[0], IMAGES[:0], torch.rand(2, 3, 18, 16)):
        with pytest.raises(ModelError, match=r"'conv1' reads images of shape \[3, 16, 16\]: give"):
            represent(blocks, images)
    with pytest.raises(ModelError, match="there is none"):
        represent([], IMAGES)
    with pytest.raises(FitSettingsError, match="batch_size=0"):
        represent(blocks, IMAGES, batch_size=0)
    with pytest.raises(DeviceError, match="abacus"):
        represent(blocks, IMAGES, device="abacus")


def test_a_value_or_weight_that_is_no_number_is_named_with_its_block() -> None:
    model = made()
    images = copy.deepcopy(IMAGES)
    images[4, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="what block 'conv1' reads of image 4 is NaN or infinite"):
        represent(split(model, IMAGES), images)
    model.get_submodule("norm2").weight.data.fill_(1e38)
    model.get_submodule("norm2").bias.data.fill_(3e38)
    with pytest.raises(ModelError, match="what block 'conv3' reads of image 0 is NaN or infinite"):
        represent(split(model, IMAGES), IMAGES * 100)
    model.get_submodule("conv2").weight.data[0] = float("inf")
    with pytest.raises(ModelError, match=r"model weight 'conv2\.weight' holds"):
        represent(split(model, IMAGES), IMAGES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_card_reads_the_same_and_the_network_stays_on_the_cpu() -> None:
    model = made()
    blocks = split(model, IMAGES)
    found, expected = represent(blocks, IMAGES, device="cuda"), represent(blocks, IMAGES)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    for name in expected:
        # A card multiplies in fewer digits.
        torch.testing.assert_close(found[name], expected[name], atol=0.05, rtol=0.01)
