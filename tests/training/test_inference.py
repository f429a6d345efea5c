from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.training.networks import example, mixed
from training.data.splits import Split
from training.digests import model_digest
from training.errors import LabelError, ModelError
from training.inference import check_fits, check_forward, evaluating, predict


def test_predictions_do_not_depend_on_the_batches() -> None:
    model = mixed()
    images = example(model, images=7)
    assert torch.allclose(predict(model, images, batch_size=2), predict(model, images, batch_size=100), atol=1e-6)


def test_a_prediction_leaves_modes_and_statistics_as_they_were() -> None:
    model = mixed()
    model.train()
    model[1].eval()
    before = model_digest(model)
    predict(model, example(model))
    assert model_digest(model) == before
    assert [module.training for module in (model, model[1], model[5])] == [True, False, True]


def test_modes_return_even_where_the_block_fails() -> None:
    model = mixed().train()
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert model.training


def test_a_model_of_doubles_takes_images_of_floats() -> None:
    model = mixed().double()
    assert predict(model, example(model)).dtype == torch.float64


def test_a_weight_that_is_no_number_is_named() -> None:
    model = mixed()
    model[4].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"'4\.weight' holds 1 NaN or infinite"):
        predict(model, example(model))


def test_an_output_that_overflows_is_refused_naming_the_image() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.Linear(2, 2))
    for part in model[1:]:
        part.weight.data.fill_(3e38)
        part.bias.data.zero_()
    images = torch.zeros(3, 1, 1, 1)
    images[2] = 1.0
    with pytest.raises(ModelError, match="outputs for image 2 are NaN or infinite"):
        predict(model, images)


def test_images_that_do_not_fit_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"cannot take images of shape \(3, 12, 12\)") as caught:
        check_forward(mixed(), torch.zeros(2, 3, 12, 12))
    assert "\n" not in str(caught.value)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize("model", [Pair(), nn.Identity()])
def test_a_model_that_returns_no_logits_is_refused(model: nn.Module) -> None:
    with pytest.raises(ModelError, match="must return logits"):
        check_forward(model, torch.zeros(1, 1, 2, 2))


def test_a_label_without_an_output_is_refused() -> None:
    split = Split(example(mixed(), images=4), torch.tensor([0, 1, 3, 2]))
    with pytest.raises(LabelError, match="image 2 has label 3 but the model has 3 outputs"):
        check_fits(mixed(), split)


class Particular(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 32, 32), "colour only"
        return x.flatten(1)


def test_a_forward_that_raises_anything_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="colour only"):
        check_forward(Particular(), torch.zeros(1, 1, 28, 28))
