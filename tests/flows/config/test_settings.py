"""The settings and the words of the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.adapters.library_settings import rules_of, swap_tries_of
from flows.config import CONTROLS, Settings
from flows.config.command_line import inherit, settings_of, subject_of, words_of
from flows.config.descriptions import bounds_of, choices_of, default_of, help_of, values_of
from flows.config.entry_points import ENTRY_POINTS, entry_point
from flows.config.groups import DataSettings
from flows.errors import SettingsError
from training import RULES

MAIN = ENTRY_POINTS["main"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "1.5"),
        ("threshold", "-0.1"),
        ("threshold", "nan"),
        ("loss_weight", "0"),
        ("loss_weight", "inf"),
        ("radius", "-1e-5"),
        ("images_per_class", "0"),
        ("scoring_sets", "2.5"),
        ("time_limit", "0"),
        ("gap", "nan"),
        ("learning_rate", "-1"),
        ("epochs", "many"),
        ("relax", "perhaps"),
        ("gate", "patern"),
        ("channels", "2"),
        ("solver_options", "[1]"),
        ("solver_options", "{"),
        ("dataset", " "),
        ("seed", "-1"),
        ("workers", "0"),
        ("device", "tpu"),
        ("share", "1"),
        ("share", "-0.1"),
        ("budget", "0"),
        ("budget", "1"),
        ("floor", "0"),
        ("round_to", "0"),
        ("steps", "0"),
        ("exchange", "-2"),
        ("rule", "l3_norm"),
        ("selection", "all"),
        ("budget_on", "bytes"),
        ("compare", "random,l3_norm"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line_that_names_it(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of({name: value})
    assert str(caught.value).startswith(f"{name}={value}: must")
    assert "\n" not in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"gap=x: .*; threshold=2: "):
        settings_of({"gap": "x", "threshold": "2"})


def test_the_rules_of_the_settings_are_those_that_there_are() -> None:
    assert set(CONTROLS) == set(RULES)
    assert len(CONTROLS) == len(RULES)


def test_an_unknown_rule_to_compare_with_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"there is no rule 'tailor' \(did you mean 'taylor'"):
        settings_of({"compare": "random,tailor"})


def test_the_rules_to_compare_with_are_taken_once_in_their_order_or_all() -> None:
    assert rules_of(Settings(compare=" dead , random,dead")) == ("dead", "random")
    assert rules_of(Settings(compare="all")) == CONTROLS
    assert rules_of(Settings(compare="")) == rules_of(Settings(compare="none")) == ()


def test_units_are_exchanged_after_small_steps_unless_told_otherwise() -> None:
    assert swap_tries_of(Settings()) == 0
    assert swap_tries_of(Settings(schedule="iterative")) == 100
    assert swap_tries_of(Settings(schedule="iterative", exchange=0)) == 0
    assert swap_tries_of(Settings(exchange=7)) == 7


def test_an_unknown_parameter_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown parameter 'lerning_rate'.*did you mean 'learning_rate'"):
        words_of(MAIN, ["--lerning_rate", "1"])


def test_a_parameter_of_another_flow_is_refused_with_the_flows_that_take_it() -> None:
    with pytest.raises(SettingsError, match="flow prune takes no parameter 'gate'; it belongs to: main, score"):
        words_of(ENTRY_POINTS["prune"], ["--run_id", "1", "--gate", "exact"])


def test_an_unknown_flow_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown flow 'mian' \(did you mean 'main'\?\); flows: main, train"):
        entry_point("mian")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["seed", "1"], "stray word 'seed'"),
        (["--seed"], "seed has no value"),
        (["--seed", "1", "--seed=2"], "seed is given twice"),
    ],
)
def test_a_malformed_command_line_is_refused(words: list[str], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        words_of(MAIN, words)


def test_a_stage_without_a_run_to_continue_is_refused() -> None:
    with pytest.raises(SettingsError, match="run_id is missing: score continues the run of a train stage"):
        words_of(ENTRY_POINTS["score"], ["--gap", "0.1"])


def test_both_spellings_of_a_parameter_mean_the_same() -> None:
    words = words_of(MAIN, ["--loss-weight", "2", "--gap=0.5", "--checkpoint", ""])
    assert settings_of(words) == Settings(loss_weight=2.0, gap=0.5)


@given(threshold=st.floats(0, 1), epochs=st.integers(0, 10**6), relax=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_settings_survive_being_written_as_words(threshold: float, epochs: int, relax: bool, seed: int) -> None:
    settings = Settings(threshold=threshold, epochs=epochs, relax=relax, seed=seed)
    words = [word for name in MAIN.own for word in (f"--{name}", str(getattr(settings, name)))]
    assert settings_of(words_of(MAIN, words)) == settings


def test_a_stage_inherits_what_it_is_not_told_and_takes_its_own_defaults() -> None:
    earlier = Settings(model="fc3", seed=7, batch_size=16, threshold=0.5, epochs=3, learning_rate=0.5)
    words = {"run_id": "1", "learning_rate": "0.25", "seed": "7"}
    settings = inherit(ENTRY_POINTS["retrain"], words, earlier)
    assert settings == earlier.model_copy(update={"run_id": "1", "learning_rate": 0.25})


def test_a_stage_refuses_another_data_set_than_the_one_trained_on() -> None:
    words = {"run_id": "1", "dataset": "mnist"}
    with pytest.raises(SettingsError, match="dataset=mnist: run 1 has dataset=digits; leave dataset out"):
        inherit(ENTRY_POINTS["score"], words, Settings())


@pytest.mark.parametrize("point", ENTRY_POINTS.values(), ids=lambda point: point.name)
def test_the_help_has_one_line_for_every_setting_with_its_choices_bounds_and_default(point) -> None:
    lines = help_of(point).splitlines()
    for name in point.own + point.free:
        [line] = [line for line in lines if line.startswith(f"  --{name} ")]
        assert str(Settings.model_fields[name].description) in line
        assert line.endswith(f"[{default_of(point, name) if name in point.own else 'as before'}]")
        assert bounds_of(name) in line
        if Settings.model_fields[name].annotation is not bool:
            assert all(choice in line for choice in choices_of(name))


def test_the_help_lists_settings_under_the_titles_of_their_groups() -> None:
    sections = help_of(MAIN).split("\n\n")
    [data] = [section for section in sections if section.startswith("Data:")]
    assert [line.split()[0] for line in data.splitlines()[1:]] == [f"--{name}" for name in DataSettings.model_fields]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("gate", "published, pattern, linear or exact"),
        ("relax", "true or false"),
        ("epochs", "whole number, at least 0"),
        ("threads", "whole number, at least 1, at most 1024"),
        ("share", "number, at least 0, below 1"),
        ("loss_weight", "number, above 0"),
        ("dataset", "text"),
    ],
)
def test_what_a_setting_may_be_is_said_in_words(name: str, values: str) -> None:
    assert values_of(name) == values


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if field.annotation is int])
def test_a_number_that_no_library_takes_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}=1{'0' * 30}: must be"):
        settings_of({name: f"1{'0' * 30}"})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("lenet5", "lenet5"),
        ("vgg16@0.25", "vgg16@0.25"),
        ("/home/a/networks.py:MyNet", "MyNet"),
        ("package.module:small", "small"),
        ("torchvision:resnet18", "resnet18"),
        ("runs:/0123/network", "network"),
        ("models:/digits/3", "digits/3"),
        ("models:/m-0123", "m-0123"),
    ],
)
def test_a_network_has_its_own_name_in_titles(model: str, name: str) -> None:
    assert subject_of(Settings(model=model, dataset="/data/birds")) == f"{name} on birds"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 1
