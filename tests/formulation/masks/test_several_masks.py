"""Several masks far from each other: against enumeration, with a bound for each, and what leaves no further one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import CheckFailed, InvalidBudget, TimeLimitReached, check_mask, choose_distinct_masks
from formulation.deadline import Deadline
from formulation.masks import CostLimit, Distance, MaskBudget, MaskSettings, MaskSolution
from formulation.masks.budgets import admits, missing, moves, taken_away
from formulation.masks.feasible_mask import feasible_mask
from tests.formulation.cases import dense
from tests.formulation.masks.planted import admitted, problem_of

DEEP = dense(31, hidden=(6, 5), images=16)
FIRST, SECOND = DEEP.gates
NEAR = MaskSettings(temperature=2.0, refit_weight=0.1, gap=1e-2, nodes=500, time_limit=120.0)
PROBLEM = problem_of(DEEP, "softened", 0.1)
NETWORK = PROBLEM.expansion.network


def stacked(solution: MaskSolution) -> np.ndarray:
    return NETWORK.stack({name: mask.astype(float) for name, mask in solution.masks.items()})


def away_from(mask: np.ndarray, units: int) -> Distance:
    return Distance({name: tuple(bool(k) for k in kept) for name, kept in NETWORK.unstack(mask).items()}, units)


@pytest.mark.parametrize(
    ("budget", "number", "distance"),
    [
        (MaskBudget(counts={FIRST: 3, SECOND: 3}), 3, 1),
        (MaskBudget(counts={FIRST: 3, SECOND: 3}), 3, 4),
        (MaskBudget(at_most={FIRST: 2}, units=5), 2, 3),
    ],
    ids=["counts, any other", "counts", "units"],
)
def test_each_mask_is_the_best_of_those_far_from_the_ones_before_it(
    budget: MaskBudget, number: int, distance: int
) -> None:
    found = choose_distinct_masks(DEEP.model, DEEP.images, DEEP.labels, budget, NEAR, number=number, distance=distance)
    values = {tuple(mask): PROBLEM.solve(mask, 1e-8).objective for mask in admitted(PROBLEM.expansion, budget)}
    before: list[np.ndarray] = []
    for solution in found:
        far = [v for m, v in values.items() if all(np.abs(np.array(m) - other).sum() >= distance for other in before)]
        claimed = solution.certificate
        assert claimed.checked
        assert claimed.status == "optimal"
        assert claimed.bound <= min(far) + 1e-9
        assert min(far) <= claimed.objective + 1e-7
        assert min(np.abs(stacked(solution) - other).sum() for other in [*before, 99]) >= distance
        before.append(stacked(solution))
    # What a solution says of its distances is written down with it, and checked.
    again = MaskBudget.from_dict(found[-1].certificate.budget)
    assert len(again.distances) == number - 1
    check_mask(DEEP.model, DEEP.images, DEEP.labels, found[-1])
    nearer = replace(found[-1], masks=found[0].masks, changes=found[0].changes)
    with pytest.raises(CheckFailed, match="pass the budget"):
        check_mask(DEEP.model, DEEP.images, DEEP.labels, nearer)


def test_a_trust_region_and_a_distance_hold_together() -> None:
    budget = MaskBudget(units=8, changes=4)
    found = choose_distinct_masks(DEEP.model, DEEP.images, DEEP.labels, budget, NEAR, number=2, distance=3)
    one, two = map(stacked, found)
    assert np.abs(one - two).sum() >= 3
    assert max((1 - one).sum(), (1 - two).sum()) <= 4


@pytest.mark.parametrize(
    ("number", "distance", "budget", "said"),
    [
        (2, 9, MaskBudget(counts={FIRST: 5, SECOND: 4}), r"1 of 2 masks.* differ in 9 units: .*at most in 4; lower"),
        (9, 2, MaskBudget(counts={FIRST: 6, SECOND: 4}), r"5 of 9 masks .* in 2 units: .*lower the distance"),
        (0, 2, MaskBudget(units=6), "number=0 is out of range"),
        (2, 0, MaskBudget(units=6), "distance=0 is out of range"),
        (2, True, MaskBudget(units=6), "distance=True is out of range"),
        (1, 2, MaskBudget(distances=(Distance({FIRST: (True,) * 6}, 1),)), "a mask to keep away from has"),
    ],
)
def test_what_leaves_no_further_mask_is_one_line(number: int, distance: int, budget: MaskBudget, said: str) -> None:
    with pytest.raises(InvalidBudget, match=said):
        choose_distinct_masks(DEEP.model, DEEP.images, DEEP.labels, budget, NEAR, number=number, distance=distance)


def test_all_masks_of_a_width_are_found_and_no_more_from_a_loader_that_is_read_once() -> None:
    case = dense(5, hidden=(5,), images=4)
    (layer,) = case.gates
    rough = MaskSettings(refit_weight=1.0, gap=0.5, nodes=1, swaps=1)
    once = (part for part in [(case.images[:3], case.labels[:3]), (case.images[3:], case.labels[3:])])
    budget = MaskBudget(counts={layer: 3})
    with pytest.raises(InvalidBudget, match=r"10 of 11 masks .*: no mask is left within the budget that") as refusal:
        choose_distinct_masks(case.model, once, None, budget, rough, number=11, distance=1)
    assert len({tuple(each.masks[layer]) for each in refusal.value.solutions}) == 10
    check_mask(case.model, case.images, case.labels, refusal.value.solutions[-1])


def test_an_error_on_the_way_has_the_masks_found_before() -> None:
    rounds: list[int] = []

    def stop_in_the_second(number: int, bound: float, objective: float) -> None:
        rounds.append(number)
        if len(rounds) > 1 and number <= rounds[-2]:
            raise TimeLimitReached("stopped")

    budget, asked = MaskBudget(counts={FIRST: 3, SECOND: 3}), (DEEP.model, DEEP.images, DEEP.labels)
    with pytest.raises(TimeLimitReached, match="stopped") as stop:
        choose_distinct_masks(*asked, budget, NEAR, number=2, distance=2, progress=stop_in_the_second)
    (first,) = stop.value.solutions
    check_mask(*asked, first)


@pytest.mark.parametrize("most", [2.0, 3.0])
def test_a_first_mask_within_a_product_of_widths_is_found_or_there_is_none(most: float) -> None:
    product = CostLimit("multiply-adds", ((FIRST, SECOND, 1.0),), most)
    smaller = MaskBudget(costs=(replace(product, most=2.0),))
    others = tuple(away_from(mask, 1) for mask in admitted(PROBLEM.expansion, smaller))
    budget = MaskBudget(costs=(product,), distances=others)
    ones, solver = np.ones(NETWORK.score_count), NEAR.for_solver()
    if most == 2.0:
        with pytest.raises(InvalidBudget, match=f"no mask is left within the budget .* from {len(others)} others"):
            feasible_mask(NETWORK, budget, ones, solver, Deadline.after(60))
    else:
        assert admits(NETWORK, budget, ones, feasible_mask(NETWORK, budget, ones, solver, Deadline.after(60)))
    with pytest.raises(TimeLimitReached, match="a mask within the budget"):
        feasible_mask(NETWORK, budget, ones, solver, Deadline.after(0))


bits = st.lists(st.booleans(), min_size=NETWORK.score_count, max_size=NETWORK.score_count).map(
    lambda kept: np.array(kept, dtype=float)
)


@settings(max_examples=60, deadline=None)
@given(made=bits, others=st.lists(bits, min_size=1, max_size=3), units=st.integers(1, 6), seed=st.integers(0, 9))
def test_swaps_take_a_mask_away_from_others_and_keep_its_widths(
    made: np.ndarray, others: list[np.ndarray], units: int, seed: int
) -> None:
    distances = tuple(away_from(other, units) for other in others)
    scores = np.random.default_rng(seed).random(NETWORK.score_count)
    moved = taken_away(NETWORK, distances, scores, made)
    if moved is None:
        assert missing(NETWORK, distances, made).any()
        return
    assert not missing(NETWORK, distances, moved).any()
    assert (
        admits(NETWORK, MaskBudget(distances=distances), made, moved)
        or min(moved[where].sum() for where in NETWORK.score_slices.values()) == 0
    )
    for where in NETWORK.score_slices.values():
        assert moved[where].sum() == made[where].sum()
    if not missing(NETWORK, distances, made).any():
        assert np.array_equal(moved, made)
    for unit, gain in enumerate(moves(NETWORK, distances[:1], made)[0]):
        flipped = made.copy()
        flipped[unit] = 1 - flipped[unit]
        assert np.abs(flipped - others[0]).sum() - np.abs(made - others[0]).sum() == gain
