"""The parts of the settings, and what a field says of its setting."""

import pytest

from flows.config.command_line import settings_of_run
from flows.config.groups import RANGES, DataPart, FitPart, NetworkSettings, ScorePart
from flows.config.settings import FREE, GROUPS, PARTS, PLACES, TRAITS, Settings
from flows.errors import SettingsError
from flows.execution.keys import Recipe, narrowed

VIEWS = {"data": DataPart, "fit": FitPart, "score": ScorePart}


def test_a_part_has_the_values_of_the_whole() -> None:
    settings = Settings(model="fc2", gap=0.25, draws=7, seeds=2, threads=3)
    views = (settings.data, settings.fit, settings.score, settings.prune, settings.trial, settings.run)
    assert [type(view) for view in views] == list(PARTS)
    together = {name: value for view in views for name, value in view.model_dump().items()}
    assert together == settings.model_dump()
    assert list(together) == list(Settings.model_fields)


@pytest.mark.parametrize(("name", "kind"), VIEWS.items())
def test_a_part_is_frozen_and_has_no_setting_of_another(name: str, kind: type) -> None:
    view = getattr(Settings(), name)
    assert isinstance(view, kind)
    with pytest.raises(ValueError, match="frozen"):
        setattr(view, next(iter(kind.model_fields)), 1)
    with pytest.raises(AttributeError, match="seed"):
        _ = view.seed


def test_a_setting_that_a_recipe_does_not_name_is_refused_by_name_flat_and_by_part() -> None:
    seen = narrowed(Recipe("score set", ("gap", "seed")), Settings(gap=0.25, seed=4, cache="none"))
    assert (seen.gap, seen.score.gap, seen.run.seed, seen.run.cache) == (0.25, 0.25, 4, "none")
    for read in (lambda: seen.loss_weight, lambda: seen.score.loss_weight, lambda: seen.run.device):
        with pytest.raises(AttributeError, match=r"^setting '(loss_weight|device)' is outside of the part"):
            read()


def test_a_word_that_is_no_setting_is_no_setting_of_a_part_either() -> None:
    with pytest.raises(AttributeError, match="'Settings' object has no attribute 'gaps'"):
        _ = Settings().gaps


def test_every_group_belongs_to_one_part() -> None:
    assert NetworkSettings in GROUPS
    assert len(set(GROUPS)) == len(GROUPS)
    for part in PARTS:
        assert set(part.model_fields) == {name for base in part.__bases__ for name in base.model_fields}


def test_no_result_depends_on_a_place_and_a_machine_is_no_place_of_things() -> None:
    assert set(PLACES) - set(FREE) == {"device", "threads"}
    assert {"cache", "tracking_uri", "data_root"} <= set(FREE)


@pytest.mark.parametrize("name", [name for name, traits in TRAITS.items() if traits.later])
def test_a_setting_that_came_later_may_be_missing_in_a_run_and_no_other(name: str) -> None:
    values = dict(Settings())
    assert settings_of_run({each: value for each, value in values.items() if each != name}) == Settings()
    with pytest.raises(SettingsError, match=r"^it lacks epochs$"):
        settings_of_run({each: value for each, value in values.items() if each not in (name, "epochs")})


def test_a_sweep_may_be_over_what_says_its_range() -> None:
    assert set(RANGES) == {name for name, traits in TRAITS.items() if traits.sweep}
    with pytest.raises(ValueError, match="loss_weight"):
        Settings(over="gap")
