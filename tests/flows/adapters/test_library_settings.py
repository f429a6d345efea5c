"""The settings in the words of the two libraries: none is lost on the way, and none is made up."""

import logging
from dataclasses import fields
from pathlib import Path

import pytest

from flows.adapters.library_settings import (
    dataset_of,
    fit_settings_of,
    network_of,
    score_settings_of,
    scoring_sets_of,
)
from flows.config import Settings, settings_of
from flows.config.groups import FittingSettings, ProgramSettings
from formulation import ScoreSettings
from training import FitSettings, ImageShapeError, SamplingError

# Another value than the default of every setting of the program, in two settings that a program can have.
PROGRAM = {
    **{"loss_weight": 2.0, "radius": 0.25, "gate": "exact", "relax": False, "integer_scores": True, "gap": 0.5},
    **{"layer_weight": "total", "solver": "scip", "solver_options": '{"limits/nodes": 7}', "time_limit": 9.0},
    **{"cuts": "lifted", "break_ties": False, "allow_degenerate": True},
}
TRAINING = {
    **{"learning_rate": 0.5, "batch_size": 7, "optimiser": "sgd", "weight_decay": 0.25, "rate_schedule": "cosine"},
    **{"augment": "flip_crop", "precision": "mixed"},
}


def test_every_setting_of_the_program_reaches_the_library() -> None:
    assert set(PROGRAM) == set(ProgramSettings.model_fields)
    assert all(value != getattr(Settings(), name) for name, value in PROGRAM.items())
    found = score_settings_of(Settings(threads=3, **PROGRAM))
    assert {name: getattr(found, name) for name in PROGRAM} == PROGRAM | {"solver_options": {"limits/nodes": 7}}
    assert found.threads == 3


def test_every_setting_of_the_training_reaches_the_library() -> None:
    assert set(TRAINING) == set(FittingSettings.model_fields) - {"epochs", "fit_by"}
    assert all(value != getattr(Settings(), name) for name, value in TRAINING.items())
    found = fit_settings_of(Settings(threads=3, seed=5, epochs=1, device="cpu", **TRAINING), epochs=11)
    assert {name: getattr(found, name) for name in TRAINING} == TRAINING
    assert (found.epochs, found.seed, found.threads, found.device) == (11, 5, 3, "cpu")


@pytest.mark.parametrize("kind", [ScoreSettings, FitSettings])
def test_what_a_library_alone_knows_keeps_its_default(kind: type) -> None:
    made = score_settings_of(Settings()) if kind is ScoreSettings else fit_settings_of(Settings(), 1)
    alone = [field for field in fields(kind) if field.name not in Settings.model_fields]
    assert alone
    for field in alone:
        assert getattr(made, field.name) == getattr(kind(), field.name)


@pytest.mark.parametrize(
    ("asked", "drawn"), [({}, 14), ({"images_per_class": "20"}, 14), ({"images_per_class": "3"}, 3)]
)
def test_the_usual_number_of_images_gives_way_to_what_the_rarest_class_has_with_a_warning(
    asked: dict[str, str], drawn: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of({"dataset": "digits", "scoring_sets": "2", **asked})
    dataset = dataset_of(settings)
    with caplog.at_level(logging.WARNING, "flows"):
        sets = scoring_sets_of(settings, network_of(settings, dataset), dataset, correct_only=False)
    assert [len(each) for each in sets] == [10 * drawn] * 2
    said = [record.getMessage() for record in caplog.records if "images of each class" in record.getMessage()]
    assert said == (
        []
        if drawn == 3
        else ["sample   14 images of each class instead of the usual 20: no more of one class are there"]
    )


def test_another_number_of_images_than_the_usual_is_kept_to() -> None:
    settings = settings_of({"dataset": "digits", "scoring_sets": "2", "images_per_class": "19"})
    dataset = dataset_of(settings)
    with pytest.raises(SamplingError, match="images in the split, 38 are wanted"):
        scoring_sets_of(settings, network_of(settings, dataset), dataset, correct_only=False)


def test_a_network_for_images_of_another_size_is_refused_with_the_settings_that_make_them_fit(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text("from torch import nn\ndef small():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    settings = Settings(dataset="digits", model=f"{file}:small")
    with pytest.raises(ImageShapeError, match=r"shape \(1, 28, 28\).* image_size=<pixels>.*: image_size=8 leaves them"):
        network_of(settings, dataset_of(settings))
    fitting = settings.model_copy(update={"image_size": 8})
    assert dataset_of(fitting).input_shape == (1, 8, 8)
    network_of(fitting, dataset_of(fitting))
