"""Refit: normal equations hold, nothing removed changes nothing, and a planted redundant unit is recovered exactly."""

import numpy as np
import pytest
import torch
from torch import nn

import training
from training.errors import RefitError
from training.pruning.refit import refit, refit_layers

IMAGES = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def convolutional(*, bias: bool = True, groups: int = 1) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(1, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 6, 2, bias=bias, groups=groups), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 3)),
    ]
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        network(IMAGES)  # settles the BatchNorms
    return network.eval()


def masks_of(**kept: list[int]) -> dict[str, np.ndarray]:
    widths = {"0": 8, "4": 6, "8": 10}
    return {name[1:]: np.isin(np.arange(widths[name[1:]]), numbers) for name, numbers in kept.items()}


def test_nothing_removed_leaves_the_weights() -> None:
    network = convolutional()
    found = refit(network, {"0": np.ones(8, dtype=bool)}, IMAGES)
    for name, value in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("ridge", [0.0, 1e-4, 1e-2])
def test_the_normal_equations_hold(ridge: float) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double().eval()
    images = torch.randn(200, 6, dtype=torch.float64)
    kept = np.array([1, 1, 0, 1, 0, 1, 1, 1], dtype=bool)
    found = refit(network, {"0": kept}, images, ridge=ridge)
    z = network[1](network[0](images))[:, kept]
    y = network(images)
    v, w = found[2].weight[:, kept], network[2].weight[:, kept]
    z, mean = z - z.mean(0), z.mean(0)
    gram = z.T @ z
    residual = (v @ gram - (y - y.mean(0)).T @ z) + ridge * gram.diagonal().mean() * (v - w)
    assert residual.abs().max() < 1e-8 * gram.abs().max()
    assert torch.allclose(found[2].bias, y.mean(0) - v @ mean)


@pytest.mark.parametrize(("bias", "groups"), [(True, 1), (False, 1), (True, 2), (False, 2)])
def test_no_layers_error_is_above_the_unrefitted_one(bias: bool, groups: int) -> None:
    network, masks = convolutional(bias=bias, groups=groups), masks_of(_0=[0, 2, 3, 5, 6], _8=[0, 1, 4, 5, 7, 9])
    found = refit_layers(network, masks, IMAGES, ridge=1e-9)
    assert list(found.layers) == ["4", "8", "10"]
    for each in found.layers.values():
        assert 0.0 <= each.error_after <= each.error_before * (1 + 1e-9)


def test_the_refitted_network_is_nearer_to_the_dense_one_on_images_that_it_has_not_seen() -> None:
    network, masks = convolutional(), masks_of(_0=[0, 2, 3, 5, 6], _4=[0, 1, 3, 5])
    other = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    plain, found = training.prune(network, masks, IMAGES[:1]), refit(network, masks, IMAGES)
    with torch.no_grad():
        dense, before, after = network(other), plain(other), found(other)
    assert (after - dense).square().mean() < (before - dense).square().mean()


def test_a_unit_that_another_one_repeats_is_recovered_exactly() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double().eval()
    with torch.no_grad():
        network[0].weight[5], network[0].bias[5] = 3 * network[0].weight[1], 3 * network[0].bias[1]
    images = torch.randn(100, 6, dtype=torch.float64)
    found = refit(network, {"0": np.arange(8) != 5}, images, ridge=1e-12)
    with torch.no_grad():
        assert torch.allclose(found(images), network(images), atol=1e-6)


def test_removed_units_stay_removed_and_the_compacted_network_is_equal() -> None:
    network, masks = convolutional(), masks_of(_0=[0, 2, 3, 5, 6], _4=[0, 1, 3, 5], _8=[1, 2, 3])
    found = refit(network, masks, IMAGES)
    assert all(
        bool((found.state_dict()[name][zeros] == 0).all())
        for name, zeros in training.removed_entries(network, masks, IMAGES[:1]).items()
    )
    compacted = training.compact(found, masks, IMAGES[:1])
    with torch.no_grad():
        assert torch.allclose(compacted(IMAGES), found(IMAGES), atol=1e-10)


def test_the_dense_network_is_not_touched() -> None:
    network = convolutional()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    refit(network, masks_of(_0=[1, 2]), IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_fewer_images_than_inputs_work_by_the_ridge() -> None:
    network, masks = convolutional(), masks_of(_4=[0, 1, 3, 5])
    found = refit_layers(network, masks, IMAGES[:3])
    assert found.layers["8"].readings == 3 < found.layers["8"].columns
    assert all(bool(torch.isfinite(value).all()) for value in found.network.state_dict().values())


@pytest.mark.parametrize(
    ("images", "ridge", "words"),
    [
        (IMAGES[:0], None, "images is empty"),
        (IMAGES, -1.0, "ridge=-1.0"),
        (IMAGES, float("nan"), "ridge=nan"),
        (IMAGES[:2], 0.0, "layer '8': the Gram matrix of .* singular"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(images: torch.Tensor, ridge: float | None, words: str) -> None:
    with pytest.raises(RefitError, match=words) as refused:
        refit(convolutional(), masks_of(_4=[0, 1, 3, 5]), images, ridge=ridge)
    assert "\n" not in str(refused.value)


def test_activations_that_are_no_numbers_name_the_layer() -> None:
    images = IMAGES.clone()
    images[7, 0, 2, 2] = float("nan")
    with pytest.raises(RefitError, match="layer '4' reads or emits NaN"):
        refit(convolutional(), masks_of(_0=[1, 2, 3]), images)


def test_images_of_one_class_or_all_alike_leave_finite_weights_and_the_mean() -> None:
    network, alike = convolutional(), IMAGES[:1].expand(20, -1, -1, -1)
    found = refit(network, masks_of(_4=[0, 1, 3, 5], _8=[1, 2, 3]), alike)
    with torch.no_grad():
        assert torch.allclose(found(alike), network(alike), atol=1e-6)


def test_units_that_emit_nothing_are_no_hindrance() -> None:
    network = convolutional()
    with torch.no_grad():
        network[8].bias.fill_(-100.0)
    found = refit_layers(network, masks_of(_8=[1, 2, 3]), IMAGES)
    assert found.layers["10"].error_after == 0.0
    with torch.no_grad():
        assert torch.allclose(found.network(IMAGES), network(IMAGES))


class Widening(nn.Module):
    """A layer behind the removal that no least-squares fit takes: its upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 4, 3)
        self.wide, self.last = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Linear(256, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.second(torch.relu(self.first(images))))
        return self.last(torch.relu(self.wide(inner)).flatten(1))


def test_a_layer_that_is_not_linear_in_weights_of_its_own_is_left_and_named() -> None:
    torch.manual_seed(0)
    network = Widening().double().eval()
    found = refit_layers(network, {"first": np.array([True, False, True, True, True])}, IMAGES)
    assert list(found.layers) == ["second", "last"]
    assert found.left == {"wide": "ConvTranspose2d is no Linear, Conv1d or Conv2d layer"}
    assert torch.equal(found.network.wide.weight, network.wide.weight)


def test_a_weight_that_two_layers_share_is_left_and_named() -> None:
    torch.manual_seed(0)
    squares = [nn.Linear(9, 9) for _ in range(3)]
    squares[2].weight = squares[1].weight
    layers = [nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), squares[0], nn.ReLU(), squares[1], nn.ReLU(), squares[2]]
    found = refit_layers(nn.Sequential(*layers).double().eval(), {"1": np.arange(9) != 4}, IMAGES)
    assert list(found.layers) == ["3"]
    assert found.left == {"5": "its weight is also 7.weight", "7": "its weight is also 5.weight"}


def test_depthwise_layers_and_groups_that_lose_all_their_inputs_are_fitted() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    network = nn.Sequential(*layers).double().eval()
    masks = {"0": np.array([True, True, False, True])}
    found = refit_layers(network, masks, IMAGES)
    assert list(found.layers) == ["2", "5"]
    compacted = training.compact(found.network, masks, IMAGES[:1])
    with torch.no_grad():
        assert torch.allclose(compacted(IMAGES), found.network(IMAGES), atol=1e-10)
