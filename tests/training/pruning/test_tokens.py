"""Units of a Linear on tokens, and units behind activation functions that the op table does not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.training.compacting import check
from tests.training.networks import drawn_masks
from training.data import Split
from training.errors import UnsupportedGraph
from training.models import build
from training.pruning import consumers, prune
from training.pruning.ranking import search_swaps
from training.pruning.ranking.activations import responses
from training.pruning.refit import refit

SHAPE = (1, 8, 8)


def vit() -> nn.Module:
    return build("vit_tiny", input_shape=SHAPE, classes=3, seed=0).eval()


class Mixer(nn.Module):
    """A small MLP on tokens, an odd activation function in it, then one over what is left."""

    input_shape = (5, 4, 1)

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(4, 6), nn.Linear(6, 4)
        self.hidden, self.output = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(nn.functional.silu(self.widen(x.squeeze(-1)))).mean(1)
        return self.output(torch.tanh(self.hidden(x)) * 2)


def test_token_wise_units_compact_to_the_masked_network() -> None:
    torch.manual_seed(0)
    model = Mixer().eval()
    assert {layer: link.units for layer, link in consumers(model, torch.rand(1, 5, 4, 1)).items()} == {
        "widen": 6,
        "narrow": 4,  # as the mean over the tokens keeps its units
        "hidden": 5,
    }
    check(model)


def test_a_vision_transformer_loses_units_of_its_mlps() -> None:
    model, images = vit(), torch.rand(20, *SHAPE)
    links = consumers(model, images[:1], [f"block{k}.fc1" for k in range(1, 5)])
    assert [link.units for link in links.values()] == [128] * 4
    masks = drawn_masks(model, list(links), 0)
    with torch.no_grad():
        expected, cut = model(images), prune(model, masks, images[:1])(images)
        fitted = refit(model, masks, images)(images)
    assert float((fitted - expected).norm()) < float((cut - expected).norm())


@pytest.mark.parametrize("act", [nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.LeakyReLU(0.1), nn.Tanh(), nn.Mish()])
def test_convolutions_behind_what_keeps_0_compact_to_the_masked_network(act: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), act, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(100, 3))
    assert list(consumers(model.eval(), torch.rand(1, 1, 12, 12))) == ["0"]
    check(model)


@pytest.mark.parametrize("act", [nn.Sigmoid(), nn.Softplus(), nn.GroupNorm(2, 4), nn.Softmax(1)])
def test_what_moves_0_or_mixes_units_is_refused(act: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), act, nn.Flatten(), nn.Linear(400, 3)).eval()
    with pytest.raises(UnsupportedGraph, match="layer '0': its units cannot be followed through"):
        consumers(model, torch.rand(1, 1, 12, 12), ["0"])


def test_responses_on_tokens_are_the_activations_and_their_gradients() -> None:
    model = vit()
    split = Split(torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 0]))
    (found,) = responses(model, split, ["block2.fc1"], batch_size=4, device="cpu")
    kept: dict[str, Tensor] = {}

    def keep(_module: nn.Module, _given: object, made: Tensor) -> None:
        made.retain_grad()
        kept["a"] = made

    handle = model.get_submodule("block2.act").register_forward_hook(keep)
    cross_entropy(model(split.images), split.labels, reduction="sum").backward()
    handle.remove()
    response = found["block2.fc1"]
    np.testing.assert_allclose(response.activation, kept["a"].detach().movedim(-1, 1), atol=1e-6)
    np.testing.assert_allclose(response.gradient, kept["a"].grad.movedim(-1, 1), atol=1e-6)


def test_swaps_of_units_on_tokens_are_judged_by_the_loss_of_the_masked_network() -> None:
    torch.manual_seed(0)
    model, images, labels = Mixer().eval(), torch.rand(40, 5, 4, 1), torch.randint(0, 2, (40,))
    masks = {"widen": np.array([True, False, True, False, True, False])}
    found = search_swaps(model, masks, images, labels, tolerance=0.0)
    for chosen, loss in ((masks, found.loss_before), (found.masks, found.loss_after)):
        with torch.no_grad():
            logits = prune(model, chosen, images[:1])(images).double()
        assert float(cross_entropy(logits, labels)) == pytest.approx(loss, abs=1e-6)
