"""Choices: the settings and the program take the same words."""

from typing import get_args

import pytest

from flows.config.settings import Settings
from formulation import ScoreSettings
from naming import FIRST_ORDER, CutForm, GateName, LayerWeight


@pytest.mark.parametrize(("setting", "choice"), [("gate", GateName), ("layer_weight", LayerWeight), ("cuts", CutForm)])
def test_a_setting_takes_every_word_that_the_program_takes(setting: str, choice: object) -> None:
    for word in get_args(choice):
        radius, relax = (0.0, word != "exact") if setting == "gate" else (0.0, True)
        assert getattr(Settings(**{setting: word}), setting) == word
        assert getattr(ScoreSettings(**{setting: word, "radius": radius, "relax": relax}), setting) == word


def test_what_is_of_first_order_is_a_gate() -> None:
    assert set(FIRST_ORDER) < set(get_args(GateName))
