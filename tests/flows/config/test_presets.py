"""Presets: what one word sets, and what overrules it."""

import pytest

import critical_neurons as cn
from flows.adapters import score_settings_of
from flows.config.command_line import chosen, settings_of, words_of
from flows.config.descriptions import help_of
from flows.config.entry_points import ENTRY_POINTS
from flows.config.presets import with_preset
from flows.config.settings import PRESETS, Settings
from flows.errors import SettingsError
from flows.pipelines.experiments.reproduce import published_of
from flows.pipelines.preparation import prepare_flow
from flows.pipelines.stage_runs import run_title
from flows.tracking import Store

MAIN = ENTRY_POINTS["main"]
PUBLISHED = {"preset": "published"}


def test_published_is_the_program_of_the_paper() -> None:
    settings = settings_of(with_preset(MAIN, PUBLISHED))
    table = published_of(Settings(threshold=0.1))
    assert settings == table.model_copy(update=PUBLISHED)
    assert score_settings_of(settings) == cn.PUBLISHED
    assert (settings.images_per_class, settings.scoring_sets, settings.refit) == (1, 1, "false")
    assert (settings.selection, settings.threshold) == ("threshold", 0.1)


def test_what_is_given_wins_also_where_it_is_the_default() -> None:
    words = words_of(MAIN, ["--preset", "published", "--gate", "pattern", "--radius", "0", "--threshold", "0.3"])
    settings = settings_of(with_preset(MAIN, words))
    assert (settings.gate, settings.radius, settings.threshold) == ("pattern", 0.0, 0.3)
    assert settings.layer_weight == "kernel"


def test_where_every_parameter_is_passed_a_default_counts_as_not_given() -> None:
    every = {name: value for name, value in Settings().model_dump().items() if name in MAIN.own}
    as_text = {name: str(value) for name, value in every.items()}
    for words in (every, as_text):
        settings = settings_of(with_preset(MAIN, {**words, **PUBLISHED, "threshold": "0.3"}, all_given=True))
        assert settings == settings_of(with_preset(MAIN, {**PUBLISHED, "threshold": "0.3"}))
    assert with_preset(MAIN, {**PUBLISHED, "gap": "x", "threshold": "y"}, all_given=True)["threshold"] == "y"


@pytest.mark.parametrize(
    "point", [each for each in ENTRY_POINTS.values() if "preset" in each.own], ids=lambda point: point.name
)
def test_a_preset_sets_only_what_the_flow_takes_and_the_help_says_what(point) -> None:
    words = with_preset(point, PUBLISHED)
    assert set(words) <= set(point.own)
    assert len(words) > 1
    [line] = [line for line in help_of(point).splitlines() if line.startswith("  --preset ")]
    assert {name for name in PRESETS["published"] if f"{name}=" in line} == set(words) - {"preset"}


@pytest.mark.parametrize("name", ["main", "robustness", "sweep"])
def test_a_flow_is_prepared_with_the_preset(name: str, store: Store) -> None:
    words = (
        {"dataset": "digits"} if name != "sweep" else {"dataset": "digits", "over": "threshold", "values": "0.1,0.2"}
    )
    settings = prepare_flow(ENTRY_POINTS[name], {**PUBLISHED, **words, "tracking_uri": store.uri})
    assert (settings.gate, settings.preset) == ("published", "published")


def test_titles_and_commands_say_the_preset_and_what_differs_from_it() -> None:
    settings = settings_of(with_preset(MAIN, {**PUBLISHED, "gate": "pattern", "seed": "3"}))
    assert chosen(MAIN, settings) == {"preset": "published", "gate": "pattern", "seed": 3}
    assert run_title("main", settings) == "preset=published, gate=pattern, … (main: lenet5 on digits)"
    again = settings_of(with_preset(MAIN, chosen(MAIN, settings)))
    assert again == settings


def test_a_word_that_is_no_preset_is_refused_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match="preset=paper: must be 'none' or 'published'"):
        settings_of(with_preset(MAIN, {"preset": "paper"}))
