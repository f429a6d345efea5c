from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.networks import Residual, example, mixed
from training.digests import model_digest
from training.errors import FitSettingsError
from training.pruning import prune
from training.pruning.compaction import compact, recalibrate


def test_the_statistics_are_those_of_the_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    images = example(model, 30)
    again = recalibrate(model, images, batch_size=10)
    maps = model[0](images)
    torch.testing.assert_close(again[1].running_mean, maps.mean((0, 2, 3)))
    batches = [part.var((0, 2, 3)) for part in maps.split(10)]
    torch.testing.assert_close(again[1].running_var, torch.stack(batches).mean(0))
    assert again[1].momentum == model[1].momentum == 0.1
    assert not again.training


def test_only_the_statistics_change_and_the_model_passed_in_is_not_touched() -> None:
    model = mixed().train()
    before = model_digest(model)
    again = recalibrate(model, example(model, 8), batch_size=4)
    assert model_digest(model) == before
    assert model.training
    changed = {key for key, value in again.state_dict().items() if not torch.equal(value, model.state_dict()[key])}
    assert {key.split(".")[1] for key in changed} == {"running_mean", "running_var", "num_batches_tracked"}


def test_dropout_draws_nothing_meanwhile() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 4), nn.BatchNorm1d(4))
    images = torch.rand(8, 1, 12, 12)
    again = recalibrate(model, images)
    torch.testing.assert_close(again[3].running_mean, model[2](images.flatten(1)).mean(0))


def test_removed_units_stay_exactly_0_and_the_compact_network_gets_the_same_statistics() -> None:
    model = mixed()
    images = example(model, 20)
    masks = {"0": np.arange(6) % 2 == 0, "4": np.arange(8) % 3 > 0, "9": np.arange(7) > 3}
    pruned = recalibrate(prune(model, masks, images), images, batch_size=8)
    for layer, norm in (("0", 1), ("4", 5), ("9", 10)):
        assert not pruned[norm].running_mean[~masks[layer]].any()
        assert not pruned[: norm + 1](images)[:, ~masks[layer]].any()
    compacted = recalibrate(compact(model, masks, images), images, batch_size=8)
    torch.testing.assert_close(compacted(images), pruned(images), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(compacted(images), compact(pruned, masks, images)(images), atol=1e-5, rtol=0.0)


def test_a_network_without_batchnorm_stays_equal() -> None:
    model = Residual()
    assert model_digest(recalibrate(model, example(model, 4))) == model_digest(model)


def test_a_lone_last_image_is_no_batch_of_its_own() -> None:
    model = mixed()
    again = recalibrate(model, example(model, 9), batch_size=4)
    assert all(torch.isfinite(value).all() for value in again.state_dict().values())
    assert int(again[1].num_batches_tracked) == 3


@pytest.mark.parametrize(("images", "batch_size"), [(1, 4), (4, 1)])
def test_one_image_has_no_variance(images: int, batch_size: int) -> None:
    with pytest.raises(FitSettingsError, match="use 2 or more of both"):
        recalibrate(mixed(), example(mixed(), images), batch_size=batch_size)


@pytest.mark.parametrize(("norm", "shape"), [(nn.SyncBatchNorm(3), (3, 4, 4)), (nn.BatchNorm3d(3), (3, 2, 2, 2))])
def test_statistics_of_every_kind_of_batchnorm_are_measured(norm: nn.Module, shape: tuple[int, ...]) -> None:
    images = 2.0 + torch.rand(6, *shape)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(images[0].numel(), 2))
    mean = images.transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(recalibrate(model, images)[0].running_mean, mean)
