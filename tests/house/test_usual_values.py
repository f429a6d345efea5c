"""Defaults: library, public face and flows start from the same program, the same images and the same goal."""

import inspect

import pytest

import critical_neurons as cn
from critical_neurons import pruned
from critical_neurons.removal.goals import Goal
from flows.adapters import score_settings_of
from flows.config import Settings, settings_of
from flows.config.entry_points import ENTRY_POINTS, EntryPoint
from formulation import ScoreSettings
from naming import USUAL_GATE, USUAL_IMAGES_PER_CLASS, USUAL_LOSS_WEIGHT

CLASSES = 10  # of the data sets that the face's number of images is meant for


def test_library_face_and_flows_pose_the_same_program() -> None:
    assert ScoreSettings() == cn.DEFAULTS == score_settings_of(Settings())
    assert (cn.DEFAULTS.gate, cn.DEFAULTS.loss_weight) == (USUAL_GATE, USUAL_LOSS_WEIGHT)


def test_face_and_flows_score_on_as_many_images_and_refit_to_as_many() -> None:
    settings = Settings()
    assert settings.scoring_sets * settings.images_per_class == USUAL_IMAGES_PER_CLASS
    for verb in (cn.score, cn.prune):
        assert inspect.signature(verb).parameters["images"].default == CLASSES * USUAL_IMAGES_PER_CLASS
    assert inspect.signature(cn.prune).parameters["refit_images"].default == settings.refit_images


def test_face_and_flows_remove_what_costs_the_same_accuracy() -> None:
    settings = Settings()
    assert Goal("tolerance", settings.tolerance) == pruned.USUAL
    assert settings.selection == "tolerance"
    assert settings.refit == "auto"
    assert inspect.signature(cn.prune).parameters["refit"].default is True


@pytest.mark.parametrize("point", [each for each in ENTRY_POINTS.values() if "gate" in each.own], ids=lambda p: p.name)
def test_every_flow_that_scores_starts_from_that_program_and_these_images(point: EntryPoint) -> None:
    settings = settings_of(point.defaults)
    assert score_settings_of(settings) == ScoreSettings()
    assert settings.images_per_class == USUAL_IMAGES_PER_CLASS
