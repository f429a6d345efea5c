"""The settings in the words of the two libraries: none is lost on the way, and none is made up."""

from dataclasses import fields

import pytest

from flows.adapters.library_settings import fit_settings_of, score_settings_of
from flows.config import Settings
from flows.config.groups import FittingSettings, ProgramSettings
from formulation import ScoreSettings
from training import FitSettings

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
