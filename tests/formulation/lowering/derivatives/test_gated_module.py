"""Passes with gates on the units: masked logits and derivatives are those of torch's hooks, both ways agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from formulation import InvalidModel, lower
from formulation.lowering import differentiable
from formulation.network import Network
from formulation.relaxation import reduce, with_jacobians
from tests.formulation.cases import SMALL, Case, drawn
from tests.formulation.lowering.derivatives.smooth_cases import (
    SMOOTH,
    Halved,
    HandWritten,
    Shortened,
    Sliced,
    hooked_jacobian,
    hooked_logits,
    smooth,
)
from tests.formulation.paper_settings import paper_settings

CLOSE = 1e-9
SETTINGS = paper_settings(gate="linear", radius=0)
every_smooth = pytest.mark.parametrize("name", sorted(SMOOTH))


def by_layer(network: Network, case: Case) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits [classes, images] and per layer the Jacobian [images, classes, units] of the gate `linear`."""
    pixels = case.images.double().flatten(1).numpy().T
    targets = np.zeros((len(case.labels), network.classes))  # the cross-entropy sees differences of logits alone
    reduction = with_jacobians(reduce(network, pixels, targets, replace(SETTINGS, loss="squared")))
    held = [batch.first_order for batch in reduction.batches]
    assert all(each is not None for each in held)
    jacobian = np.concatenate([each.jacobian for each in held])
    slopes = {name: jacobian[:, :, where] for name, where in network.score_slices.items()}
    return np.concatenate([each.logits for each in held], axis=1), slopes


@every_smooth
def test_derivatives_are_those_of_a_gate_behind_the_activation(name: str) -> None:
    make, acts = SMOOTH[name]
    case = make(1)
    network = differentiable(case.model, case.images)
    assert list(network.units) == list(acts)
    logits, slopes = by_layer(network, case)
    np.testing.assert_allclose(logits.T, case.model(case.images).detach(), atol=CLOSE)
    for layer, expected in hooked_jacobian(case, acts).items():
        np.testing.assert_allclose(slopes[layer], expected, atol=CLOSE * max(1, np.abs(expected).max()))


@every_smooth
def test_a_mask_gives_the_logits_of_the_network_whose_units_emit_0(name: str) -> None:
    make, acts = SMOOTH[name]
    case, rng = make(2), np.random.default_rng(0)
    network = differentiable(case.model, case.images)
    masks = {layer: (rng.random(units) < 0.5).astype(float) for layer, units in network.units.items()}
    with torch.no_grad():
        expected = hooked_logits(case, acts, {layer: torch.as_tensor(mask) for layer, mask in masks.items()})
    np.testing.assert_allclose(network.evaluate(case.pixels, masks).T, expected, atol=CLOSE)


@every_smooth
def test_the_pass_forwards_and_the_weighted_pass_backwards_are_products_with_the_jacobian(name: str) -> None:
    case, rng = SMOOTH[name][0](3), np.random.default_rng(0)
    whole = differentiable(case.model, case.images).differentiable
    assert whole is not None
    logits, jacobian = whole.passes.jacobian(case.pixels)
    _, margins = whole.passes.jacobian(case.pixels, margins=True)
    np.testing.assert_allclose(margins, jacobian - jacobian[:, -1:], atol=CLOSE)
    step, weights = rng.normal(size=whole.passes.size), rng.normal(size=logits.shape)
    np.testing.assert_allclose(
        whole.passes.along(case.pixels, step), logits + np.einsum("icj,j->ci", jacobian, step), atol=1e-8
    )
    again, pulled = whole.passes.pulled(case.pixels, weights)
    np.testing.assert_allclose(again, logits, atol=1e-12)
    np.testing.assert_allclose(pulled, np.einsum("ci,icj->ij", weights, jacobian), atol=1e-8)


# Oracle 14: where both ways exist they agree.
@pytest.mark.parametrize("make", [*SMALL.values(), *(lambda s, k=k: drawn(17 * k + s) for k in range(6))])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_both_ways_have_one_jacobian(make, kind: torch.dtype) -> None:
    case = make(4)
    model = case.model.to(kind)
    lowered, gated = lower(model, case.images), differentiable(model, case.images)
    assert set(lowered.layers) <= set(gated.layers)
    (logits, slopes), (found, others) = by_layer(lowered, case), by_layer(gated, case)
    np.testing.assert_allclose(found, logits, atol=CLOSE)
    for layer in slopes:
        np.testing.assert_allclose(others[layer], slopes[layer], atol=CLOSE)


@pytest.mark.parametrize("kind", [Sliced, Halved, Shortened])
def test_units_of_which_a_call_takes_a_part_have_the_derivatives_of_the_lowered_network(kind: type[Sliced]) -> None:
    case = smooth(5, kind(nn.ReLU), (3,), images=3)
    lowered, gated = lower(case.model, case.images), differentiable(case.model, case.images)
    assert list(gated.units) == list(lowered.units) == ["first", "again"]
    (_, slopes), (_, others) = by_layer(lowered, case), by_layer(gated, case)
    for layer, expected in slopes.items():
        np.testing.assert_allclose(others[layer], expected, atol=CLOSE)


class Doubled(torch.autograd.Function):
    """Twice its input, with a derivative backwards and none forwards."""

    @staticmethod
    def forward(context: object, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(context: object, slope: torch.Tensor) -> torch.Tensor:
        return 2 * slope


class Odd(nn.Module):
    """A layer of which the op table knows nothing, and torch no derivative forwards."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return doubled(x)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return Doubled.apply(x)


torch.fx.wrap("doubled")


def test_an_operation_without_a_derivative_forwards_is_differentiated_twice_backwards() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), Odd(), nn.Linear(4, 2)).double().eval()
    images = torch.rand(3, 3, dtype=torch.float64)
    whole = differentiable(model, images).differentiable
    assert whole is not None
    pixels, step = images.numpy().T, np.linspace(-1, 1, 4)
    logits, jacobian = whole.passes.jacobian(pixels)
    found = whole.passes.along(pixels, step)
    np.testing.assert_allclose(found, logits + np.einsum("icj,j->ci", jacobian, step), atol=CLOSE)


def test_passes_forwards_of_several_threads_wait_for_each_other() -> None:
    case = SMOOTH["transformer"][0](0)
    whole = differentiable(case.model, case.images).differentiable
    assert whole is not None
    step = np.linspace(-1, 0, whole.passes.size)
    expected = whole.passes.along(case.pixels, step)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: whole.passes.along(case.pixels, step), range(24)):
            np.testing.assert_array_equal(found, expected)


def test_the_digest_follows_the_weights_and_what_is_computed() -> None:
    def digest(**changed: float) -> str:
        model = nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU(changed.get("slope", 0.1)), nn.Linear(4, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(changed.get("weight", 0.5))
        return differentiable(model.eval(), torch.rand(1, 3)).digest()

    assert digest() == digest()
    assert len({digest(), digest(slope=0.2), digest(weight=0.6)}) == 3


def test_the_digest_follows_what_a_layer_does_not_say_of_itself() -> None:
    case = SMOOTH["transformer"][0](0)
    before = differentiable(case.model, case.images).digest()
    case.model.block.attention.num_heads, case.model.block.attention.head_dim = 1, 4
    assert differentiable(case.model, case.images).digest() != before


def test_where_an_operation_has_no_derivative_the_layer_is_named() -> None:
    length = HandWritten(lambda x: (x * x).sum(1, keepdim=True).sqrt())
    layers = [nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 1), nn.ReLU(), length, nn.Linear(1, 3)]
    case = smooth(4, nn.Sequential(*layers), (3,), images=20)
    whole = differentiable(case.model, case.images).differentiable
    assert whole is not None
    said = r"no derivative by units of '(0|2)' at some image: .* a square root or a norm at 0"
    with pytest.raises(InvalidModel, match=said):
        whole.passes.jacobian(case.pixels)
    with pytest.raises(InvalidModel, match=said):
        whole.passes.pulled(case.pixels, np.ones((3, 20)))
    with pytest.raises(InvalidModel, match=said):
        whole.passes.along(case.pixels, np.ones(whole.passes.size))


def test_where_an_operation_has_a_derivative_backwards_alone_a_pass_forwards_has_it_too() -> None:
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Unflatten(1, (4, 1)), nn.LPPool1d(2, 1), nn.Flatten(), nn.Linear(4, 3)]
    case = smooth(0, nn.Sequential(*layers), (3,), images=20)
    whole = differentiable(case.model, case.images).differentiable
    assert whole is not None
    logits, jacobian = whole.passes.jacobian(case.pixels)
    step = np.random.default_rng(0).normal(size=whole.passes.size)
    moved = np.einsum("icj,j->ci", jacobian, step)
    np.testing.assert_allclose(whole.passes.along(case.pixels, step), logits + moved, atol=CLOSE)
