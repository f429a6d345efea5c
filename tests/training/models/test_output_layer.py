from __future__ import annotations

import pytest
import torch
from torch import nn

from training.errors import ModelError
from training.models import build
from training.models.output_layer import find_head, with_new_head

IMAGES = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


class TwoEnds(nn.Module):
    """Its output layer stands first among its modules and is called last."""

    def __init__(self) -> None:
        super().__init__()
        self.end = nn.Linear(5, 4, bias=False)
        self.start = nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(self.start(x))


def test_a_new_head_has_the_classes_and_all_other_weights_stay() -> None:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=3)
    changed = with_new_head(model, 4, IMAGES, seed=5)
    before, after = model.state_dict(), changed.state_dict()
    assert changed(IMAGES).shape == (2, 4)
    assert after["output.weight"].shape == (4, 84)
    assert before["output.weight"].shape == (10, 84)
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("output."))


def test_the_seed_alone_decides_the_new_head_and_the_global_generator_is_left_alone() -> None:
    model = build("fc2", input_shape=(1, 28, 28), classes=10, seed=0)
    state = torch.random.get_rng_state()
    first, again, other = (with_new_head(model, 3, IMAGES, seed=seed).output.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_head_is_the_layer_called_last_wherever_it_stands() -> None:
    model = TwoEnds().double()
    assert find_head(model, IMAGES) == "end"
    changed = with_new_head(model, 9, IMAGES, seed=0)
    assert changed.end.weight.shape == (9, 5)
    assert changed.end.weight.dtype == torch.float64
    assert changed.end.bias is None


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 28), nn.Flatten()), "it calls no Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.Unflatten(1, (2, 3)), nn.Flatten(2), nn.AvgPool1d(3),
                       nn.Flatten()), "the last Linear is '1' with 6 outputs"),
        (nn.Linear(28, 2), "one image"),
    ],
)  # fmt: skip
def test_a_model_whose_head_cannot_be_found_is_refused(model: nn.Module, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        find_head(model, IMAGES)


def test_a_factory_gets_a_new_head_only_where_it_is_asked_for() -> None:
    given = {"input_shape": (1, 28, 28), "classes": 7, "seed": 0}
    with pytest.raises(ModelError, match="has 4 outputs but the data has 7 classes"):
        build("tests.training.models.test_output_layer:TwoEnds", **given)
    changed = build("tests.training.models.test_output_layer:TwoEnds", **given, new_head=True)
    assert changed(IMAGES).shape == (2, 7)
