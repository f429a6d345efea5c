from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tests.training.networks import Functional, Residual, example, mixed
from training.digests import model_digest
from training.errors import UnsupportedGraph
from training.pruning.channels import Links, Reader, consumers


def test_the_ways_through_norms_pools_and_flatten_are_found() -> None:
    links = consumers(mixed(), example(mixed()))
    assert links == {
        "0": Links("0", 6, (Reader("1", 1),), (Reader("4", 1),)),
        "4": Links("4", 8, (Reader("5", 1),), (Reader("9", 1),)),
        "9": Links("9", 7, (Reader("10", 1),), (Reader("13", 1),)),
    }


def test_a_feature_map_is_a_block_of_columns_after_flatten_and_may_have_two_readers() -> None:
    links = consumers(Functional(), torch.zeros(2, 1, 12, 12))
    assert links["first"].readers == (Reader("wide", 1), Reader("deep", 1))
    assert links["wide"].readers == (Reader("left", 36),)
    assert links["deep"].readers == (Reader("right", 36),)
    assert set(links) == {"first", "wide", "deep"}


def test_tracing_changes_neither_mode_nor_statistics() -> None:
    model = mixed().train()
    before = model_digest(model)
    consumers(model, example(model))
    assert model.training
    assert model_digest(model) == before


def test_a_norm_between_relu_and_reader_is_on_the_way() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(200), nn.Linear(200, 2))
    assert consumers(model, example(model))["0"].norms == (Reader("3", 100),)


def test_a_sum_is_refused_naming_layer_and_operation() -> None:
    with pytest.raises(UnsupportedGraph, match="layer 'first': its units cannot be followed through 'add'"):
        consumers(Residual(), torch.zeros(1, 1, 2, 2))


class Looping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.layer(x.flatten(1)))
        return self.output(torch.relu(self.layer(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.output = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))


def flat(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), *parts)


@pytest.mark.parametrize(
    ("model", "layers", "said"),
    [
        (Looping(), None, "Looping cannot be traced"),
        (Twice(), None, "layer 'layer' is called 2 times"),
        (Tied(), None, r"shared by a\.weight and b\.weight"),
        (flat(nn.ReLU()), None, "layer '1' reaches the model's output"),
        (flat(nn.ReLU(), nn.LayerNorm(3), nn.Linear(3, 2)), None, "'_3' .LayerNorm"),
        (flat(nn.ReLU(), nn.Softmax(1), nn.Linear(3, 2)), None, "Softmax"),
        (flat(nn.Tanh(), nn.Linear(3, 2)), ["1"], "layer '1' is gated by no ReLU"),
        (flat(nn.ReLU(), nn.Linear(3, 2)), ["3"], "layer '3' is gated by no ReLU"),
        (flat(nn.ReLU(), nn.Linear(3, 2)), ["7"], "layer '7' is no Linear or Conv2d"),
        (nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2)), ["1"], "layer '1'"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(model: nn.Module, layers: list[str] | None, said: str) -> None:
    with pytest.raises(UnsupportedGraph, match=said) as caught:
        consumers(model, torch.zeros(1, 1, 2, 2), layers)
    assert "\n" not in str(caught.value)
