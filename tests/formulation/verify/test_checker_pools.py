"""Oracle 9 for max-pools: a true answer passes the forward pass, every perturbed window is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from formulation import CheckFailed, InvalidSolution, ScoreSettings, Solution, check, score
from formulation.network import Unstable
from tests.formulation.cases import max_pooled
from tests.formulation.paper_settings import paper_settings

POOLED = max_pooled(1)
POOL = "2"  # the node; its windows are 3 wide, some reach into the padding
POOL_SETTINGS = {
    "relaxed": paper_settings(radius=0.1, loss_weight=20),
    "integer": paper_settings(radius=0.1, loss_weight=20, relax=False),
    "exact": ScoreSettings(gate="exact", allow_degenerate=True, radius=0.01, loss_weight=20),
}


@pytest.fixture(scope="module")
def pooled() -> dict[str, Solution]:
    return {name: score(POOLED.model, POOLED.images, POOLED.labels, s) for name, s in POOL_SETTINGS.items()}


def with_windows(solution: Solution, **batches: np.ndarray) -> Any:
    """The check of a solution whose windows have other values."""
    values = solution.unstable
    changed = replace(solution, unstable={**values, POOL: replace(values[POOL], **batches)})
    return check(POOLED.model, POOLED.images, POOLED.labels, changed)


@pytest.mark.parametrize("by", [0.05, -0.05, np.nan, np.inf])
@pytest.mark.parametrize("name", ["integer"])
def test_a_moved_window_output_is_refused(name: str, by: float, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].unstable[POOL]
    for k in range(len(windows.value)):
        moved = windows.value.copy()
        moved[k] += by
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            with_windows(pooled[name], value=moved)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_outputs_below_or_above_their_window_are_refused_by_name(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].unstable[POOL]
    with pytest.raises(CheckFailed, match=r"out >= h_j \(5\) of '2'"):
        with_windows(pooled[name], value=windows.value - 0.5)
    with pytest.raises(CheckFailed):
        with_windows(pooled[name], value=windows.value + 5.0)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_picks_that_do_not_sum_to_1_are_refused(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].unstable[POOL]
    for phase in (windows.phase * 0, windows.phase * 0.5, windows.phase + 0.1):
        with pytest.raises(CheckFailed):
            with_windows(pooled[name], phase=phase)


@pytest.mark.parametrize("name", sorted(POOL_SETTINGS))
def test_picks_beyond_0_and_1_are_refused(name: str, pooled: dict[str, Solution]) -> None:
    windows = pooled[name].unstable[POOL]
    phase = windows.phase.copy()
    phase[:, 0] += 2.0
    phase[:, 1] -= 2.0
    with pytest.raises(CheckFailed):
        with_windows(pooled[name], phase=phase)


def test_fractional_picks_and_picks_of_a_smaller_input_are_refused_in_an_integer_program(
    pooled: dict[str, Solution],
) -> None:
    windows = pooled["integer"].unstable[POOL]
    with pytest.raises(CheckFailed):
        with_windows(pooled["integer"], phase=np.full_like(windows.phase, 1 / windows.phase.shape[1]))
    refused = 0
    for shift in range(1, windows.phase.shape[1]):
        try:
            with_windows(pooled["integer"], phase=np.roll(windows.phase, shift, axis=1))
        except CheckFailed:
            refused += 1
    assert refused >= 7  # of 8


@pytest.mark.parametrize("by", [0.5, 5.0])
def test_values_for_a_stable_window_are_refused(by: float, pooled: dict[str, Solution]) -> None:
    """`pattern` decides every window: an output of one's own would be bounded by nothing from above."""
    settings = paper_settings(gate="pattern", radius=0.0)
    solution = score(POOLED.model, POOLED.images, POOLED.labels, settings)
    windows = pooled["integer"].unstable[POOL]
    whole_window = replace(windows, value=windows.value + by)
    relu = Unstable(windows.where, windows.value, windows.phase[:, :1])
    for stored in ({POOL: whole_window}, {"1": relu}):
        with pytest.raises(InvalidSolution, match="stable"):
            check(POOLED.model, POOLED.images, POOLED.labels, replace(solution, unstable=stored))


def test_values_for_a_node_that_does_not_exist_are_refused(pooled: dict[str, Solution]) -> None:
    solution = pooled["integer"]
    for name in ("nowhere", "0"):
        stored = {**solution.unstable, name: solution.unstable[POOL]}
        with pytest.raises(InvalidSolution, match="do not exist"):
            check(POOLED.model, POOLED.images, POOLED.labels, replace(solution, unstable=stored))


def test_picks_of_another_width_are_refused(pooled: dict[str, Solution]) -> None:
    solution = pooled["integer"]
    with pytest.raises(InvalidSolution):
        with_windows(solution, phase=solution.unstable[POOL].phase[:, :2])
