"""Settings of a score call, and what they refuse before any work."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest

from formulation import FormulationError, InvalidSetting, ScoreSettings, linopy_program
from formulation.score_settings import require_settings

BAD = {
    "loss weight of 0": {"loss_weight": 0.0},
    "negative loss weight": {"loss_weight": -1.0},
    "NaN loss weight": {"loss_weight": float("nan")},
    "infinite loss weight": {"loss_weight": float("inf")},
    "loss weight in words": {"loss_weight": "five"},
    "loss weight True": {"loss_weight": True},
    "negative radius": {"radius": -1e-5},
    "NaN radius": {"radius": float("nan")},
    "time limit of 0": {"time_limit": 0.0},
    "negative time limit": {"time_limit": -5.0},
    "NaN time limit": {"time_limit": float("nan")},
    "gap of 0": {"gap": 0.0},
    "unknown gate": {"gate": "open"},
    "unknown layer weight": {"layer_weight": "parameters"},
    "unknown cuts": {"cuts": "quadratic"},
    "no rounds": {"max_rounds": 0},
    "half a round": {"max_rounds": 1.5},
    "rounds as a float": {"max_rounds": 2.0},
    "no threads": {"threads": 0},
    "empty pixel range": {"pixel_range": (1.0, 1.0)},
    "inverted pixel range": {"pixel_range": (1.0, 0.0)},
    "infinite pixel range": {"pixel_range": (0.0, float("inf"))},
    "pixel range of one number": {"pixel_range": (1.0,)},
    "no pixel range": {"pixel_range": None},
    "pixel range in words": {"pixel_range": ("low", "high")},
    "no solver options": {"solver_options": None},
    "solver options as a list": {"solver_options": ["presolve"]},
    "relax in words": {"relax": "no"},
    "integer scores as a number": {"integer_scores": 1},
    "solver as a number": {"solver": 3},
    "solver options without names": {"solver_options": {1: 2}},
    "gate as an array": {"gate": np.array(["pattern", "published"])},
    "gate as a list": {"gate": ["pattern"]},
    "layer weight as an array": {"layer_weight": np.array(["units"])},
    "cuts as a number": {"cuts": 1},
    "a number too large for a float": {"time_limit": 10**400},
    "loss weight as an array": {"loss_weight": np.array([5.0, 5.0])},
    "loss weight as a complex number": {"loss_weight": 5 + 0j},
    "NaN of numpy": {"loss_weight": np.float32("nan")},
    "rounds as a float of numpy": {"max_rounds": np.float64(2.0)},
}


@pytest.mark.parametrize("what", BAD)
def test_a_value_out_of_range_is_refused_in_one_line_that_names_it(what: str) -> None:
    (name,) = BAD[what]
    with pytest.raises(InvalidSetting, match=name) as refusal:
        ScoreSettings(**BAD[what])
    assert len(str(refusal.value).splitlines()) == 1
    assert isinstance(refusal.value, FormulationError)


def test_pattern_is_defined_at_radius_0_only() -> None:
    with pytest.raises(InvalidSetting, match="radius=1e-05; set radius=0"):
        ScoreSettings(gate="pattern", radius=1e-5)
    assert ScoreSettings(gate="pattern", radius=0).radius == 0


def test_the_relaxation_of_exact_must_be_asked_for_by_name() -> None:
    with pytest.raises(InvalidSetting, match=r"degenerate.*allow_degenerate=True"):
        ScoreSettings(gate="exact")
    ScoreSettings(gate="exact", relax=False)
    ScoreSettings(gate="exact", allow_degenerate=True)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScoreSettings().loss_weight = 1.0


def test_later_changes_of_the_callers_options_do_not_reach_the_settings() -> None:
    options = {"presolve": "off"}
    settings = ScoreSettings(solver_options=options)
    options["presolve"] = "on"
    assert settings.solver_options["presolve"] == "off"


def test_settings_survive_json_and_come_back_equal() -> None:
    settings = ScoreSettings(gate="pattern", radius=0, solver_options={"presolve": "off"}, pixel_range=(-1, 1))
    plain = json.loads(json.dumps(settings.to_dict()))
    assert ScoreSettings.from_dict(plain) == settings


def test_numbers_of_numpy_are_taken_and_become_plain() -> None:
    settings = ScoreSettings(
        gate="published",
        loss_weight=np.int64(5),
        radius=np.float32(0.5),
        max_rounds=np.int32(7),
        pixel_range=(np.int64(-1), np.uint8(2)),
    )
    assert settings == ScoreSettings(gate="published", loss_weight=5, radius=0.5, max_rounds=7, pixel_range=(-1, 2))
    assert ScoreSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize("value", [{"gate": "pattern"}, None])
def test_anything_but_settings_is_refused_with_the_remedy(value: object) -> None:
    with pytest.raises(InvalidSetting, match=rf"settings is {type(value).__name__}; give ScoreSettings\(\.\.\.\)"):
        require_settings(value)
    with pytest.raises(InvalidSetting, match="give ScoreSettings"):
        linopy_program(None, None, None, value)


def test_settings_travel_to_another_process() -> None:
    settings = ScoreSettings(solver_options={"presolve": "off"})
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert dataclasses.asdict(settings)["solver_options"] == {"presolve": "off"}
