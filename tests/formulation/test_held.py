"""Layers whose scores are held at 1: the program of the others alone."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import InvalidModel, InvalidSetting, InvalidSolution, ScoreSettings, Solution, check, lower, score
from formulation.network import Network
from tests.formulation import cases
from tests.formulation.paper_settings import paper_settings


def network_of(case: cases.Case) -> Network:
    return lower(case.model, case.images)


EXACT = ScoreSettings(gate="exact", relax=False, integer_scores=True, radius=0.0, gap=1e-9, loss_weight=2.0)
LINEAR = paper_settings(gate="linear", radius=0.0, gap=1e-7)


@pytest.mark.parametrize("held", ["fc1", "fc2"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_beats_the_optimum_over_the_layers_that_are_left(seed: int, held: str) -> None:
    case = cases.dense(seed, hidden=(4, 3))
    units = dict(zip(("fc1", "fc2"), network_of(case).units.values(), strict=True))
    names = dict(zip(("fc1", "fc2"), network_of(case).units, strict=True))
    (other,) = set(units) - {held}
    solution = score(case.model, case.images, case.labels, _holding(EXACT, names[held]))
    assert set(solution.scores) == {names[other]}
    ones = {names[held]: np.ones(units[held], bool)}
    best = min(
        EXACT.loss_weight * case.masked_loss({**ones, names[other]: np.array(mask, bool)})
        + sum(kept - 2 for kept in mask) / units[other]
        for mask in product((0, 1), repeat=units[other])
    )
    assert solution.certificate.objective == pytest.approx(best, abs=1e-6)


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_a_network_with_held_layers_computes_the_same_with_their_masks_at_one(seed: int) -> None:
    case = cases.drawn(seed)
    first, *rest = network_of(case).units
    if not rest:
        return
    held = network_of(case).holding([first])
    masks = cases.random_masks(network_of(case).units, np.random.default_rng(seed), 0.5)
    ones = {first: np.ones(network_of(case).units[first])}
    np.testing.assert_array_equal(
        held.evaluate(case.pixels, {name: masks[name] for name in rest}),
        network_of(case).evaluate(case.pixels, {**masks, **ones}),
    )
    assert held.unscored[first] == "its scores are held at 1"
    assert held.digest() != network_of(case).digest()


def test_a_solution_with_held_layers_is_checked_again_after_it_was_stored(tmp_path) -> None:
    case = cases.residual(0)
    first = next(iter(network_of(case).units))
    solution = score(case.model, case.images, case.labels, _holding(LINEAR, first))
    solution.save(tmp_path / "solution")
    check(case.model, case.images, case.labels, Solution.load(tmp_path / "solution"))
    whole = score(case.model, case.images, case.labels, LINEAR)
    assert set(whole.scores) - set(solution.scores) == {first}
    forged = {**solution.certificate.settings, "held": []}
    with pytest.raises(InvalidSolution, match="made for another network"):
        check(case.model, case.images, case.labels, _with_settings(solution, forged))


def test_what_cannot_be_held_is_refused() -> None:
    case = cases.dense(0)
    with pytest.raises(InvalidSetting, match="held='fc9' is no scored layer; the scored layers are"):
        score(case.model, case.images, case.labels, _holding(LINEAR, "fc9"))
    with pytest.raises(InvalidModel, match="every layer is held"):
        score(case.model, case.images, case.labels, _holding(LINEAR, *network_of(case).units))
    with pytest.raises(InvalidSetting, match="is no tuple of layer names"):
        paper_settings(held="fc1")


def test_holding_nothing_is_the_network_itself() -> None:
    network = lower(cases.dense(0).model, cases.dense(0).images)
    assert network.holding(()) is network


def _holding(asked: ScoreSettings, *names: str) -> ScoreSettings:
    return ScoreSettings.from_dict({**asked.to_dict(), "held": list(names)})


def _with_settings(solution: Solution, asked: dict) -> Solution:
    return Solution(
        **{
            **vars(solution),
            "certificate": type(solution.certificate)(**{**vars(solution.certificate), "settings": asked}),
        }
    )
