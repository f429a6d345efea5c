"""A checkpoint that is taken as it is and does badly is told of, with what may be amiss; `mean` and `std` mend it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import training
from flows.config import Settings
from flows.errors import FlowError
from flows.stages.fitting.fit import train_network
from training import FitSettings

WORDS = {"dataset": "digits", "model": "fc2", "epochs": 0, "image_size": 8}
MEAN, STD = 20.0, 0.05  # far from those of the digits, as for pixels of 0 to 255


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    digits = training.load("digits", root=None, seed=0, image_size=8)
    network = training.build("fc2", input_shape=digits.input_shape, classes=10, seed=0)
    settings = FitSettings(epochs=3, learning_rate=0.01)
    fitted = training.fit(
        training.normalise_images(network, [0.3], [0.3], 1), digits.train, digits.validation, settings
    )
    return {name.removeprefix("network."): value for name, value in fitted.model.state_dict().items()}


def said(caplog: pytest.LogCaptureFixture, **words: object) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="flows.stages.fitting.fit"):
        train_network(Settings(**{**WORDS, **words}))
    return [record.getMessage() for record in caplog.records]


def test_a_checkpoint_far_below_its_own_file_is_told_of_unless_its_normalisation_is_given(
    weights: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "best.pt"
    torch.save({"state_dict": weights, "best_acc1": 95.0}, file)
    (warning,) = said(caplog, checkpoint=str(file), mean=str(MEAN), std=str(STD))
    assert "the file of best.pt says 95.0 %" in warning
    assert "look at mean and std" in warning
    assert said(caplog, checkpoint=str(file), mean="0.3", std="0.3") == []


def test_a_checkpoint_that_only_guesses_is_told_of(
    weights: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "plain.pt"
    torch.save(weights, file)
    (warning,) = said(caplog, checkpoint=str(file), mean=str(MEAN), std=str(STD))
    assert "% of one class" in warning
    assert said(caplog, checkpoint=str(file), mean="0.3", std="0.3") == []
    assert said(caplog) == []


@pytest.mark.parametrize(("mean", "std"), [("0.5", ""), ("", "0.5")])
def test_one_of_both_alone_is_refused(mean: str, std: str) -> None:
    with pytest.raises(FlowError, match="give both, or neither"):
        train_network(Settings(**WORDS, mean=mean, std=std))


@pytest.mark.parametrize("text", ["a", "0.5,", "0.5;0.5"])
def test_what_are_no_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be numbers by commas"):
        Settings(**WORDS, mean=text)
