"""The mask program against every mask of tiny networks, its budgets, its trust region, and any solver."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from formulation import InvalidBudget, InvalidImages, InvalidModel, InvalidSetting, InvalidSolution, TimeLimitReached
from formulation.masks import CostLimit, MaskBudget, MaskSettings, MaskSolution, check_mask, choose_mask, objective_of
from formulation.masks.inner_problem.inner_refit import InnerProblem
from tests.formulation.cases import Case, conv_pool, dense, inverted
from tests.formulation.masks.planted import admitted, problem_of
from tests.formulation.required import SOLVERS, require_installed

EXACT = MaskSettings(temperature=2.0, refit_weight=0.05, gap=1e-4, nodes=500, time_limit=120.0)
NEAR = replace(EXACT, gap=1e-2)
WIDE = dense(11, inputs=6, hidden=(12,), classes=4, images=30)
DEEP = dense(31, hidden=(6, 5), images=16)
CONV = conv_pool(13, images=6)
FIRST, SECOND = DEEP.gates


def least(problem: InnerProblem, budget: MaskBudget) -> float:
    """The optimum by enumeration: every admitted mask with its own best changes."""
    best = math.inf
    for mask in admitted(problem.expansion, budget):
        best = min(best, problem.solve(mask, 1e-8, enough=best).objective)
    return best


def choose(case: Case, budget: MaskBudget, settings: MaskSettings, **more: object) -> MaskSolution:
    return choose_mask(case.model, case.images, case.labels, budget, settings, **more)


def parameters(most: float) -> CostLimit:
    terms = ((None, FIRST, 5.0), (FIRST, SECOND, 1.0), (None, SECOND, 4.0), (None, None, 3.0))
    return CostLimit("parameters", terms, most)


BUDGETS = {
    "counts": MaskBudget(counts={FIRST: 2, SECOND: 3}),
    "units": MaskBudget(units=5),
    "at most": MaskBudget(at_most={FIRST: 3}, units=6),
    "parameters": MaskBudget(costs=(parameters(33.0),)),
    "several": MaskBudget(
        at_most={SECOND: 3}, units=6, costs=(parameters(40.0), CostLimit("reads", ((None, FIRST, 4.0),), 13.0))
    ),
}


@pytest.mark.parametrize("loss", ["labels", "softened", "squared"])
@pytest.mark.parametrize("weight", [1.0, 0.02, math.inf])
def test_on_a_last_hidden_layer_the_proved_optimum_is_that_of_all_refitted_masks(loss: str, weight: float) -> None:
    [layer] = WIDE.gates
    budget = MaskBudget(counts={layer: 4})
    solution = choose(WIDE, budget, replace(EXACT, loss=loss, refit_weight=weight))
    optimum = least(problem_of(WIDE, loss, weight), budget)
    claimed = solution.certificate
    assert claimed.status == "optimal"
    assert claimed.objective == pytest.approx(optimum, rel=2e-4, abs=1e-9)
    assert claimed.bound <= optimum + 1e-9
    assert claimed.relaxation <= claimed.bound + 1e-9
    assert claimed.objective <= claimed.unchanged_loss + 1e-9


@pytest.mark.slow
def test_on_a_layer_of_fourteen_units_it_is_that_of_all_refitted_masks_too() -> None:
    case = dense(14, inputs=8, hidden=(14,), classes=4, images=40)
    budget = MaskBudget(counts={next(iter(case.gates)): 5})
    solution = choose(case, budget, replace(NEAR, refit_weight=0.1))
    optimum = least(problem_of(case, "softened", 0.1), budget)
    assert solution.certificate.status == "optimal"
    assert solution.certificate.bound - 1e-9 <= optimum <= solution.certificate.objective + 1e-7


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("weight", [0.1, math.inf])
def test_over_two_layers_nothing_that_a_budget_admits_is_below_the_bound(budget: MaskBudget, weight: float) -> None:
    solution = choose(DEEP, budget, replace(NEAR, refit_weight=weight))
    optimum = least(problem_of(DEEP, "softened", weight), budget)
    claimed = solution.certificate
    assert claimed.status == "optimal"
    assert claimed.bound - 1e-9 <= optimum <= claimed.objective + 1e-7
    assert claimed.gap <= NEAR.gap


def test_a_convolution_and_what_pools_it_are_chosen_too_and_unread_layers_are_named() -> None:
    layers = list(CONV.gates)
    budget = MaskBudget(counts={layers[0]: 2, layers[1]: 1, layers[2]: 2})
    solution = choose(CONV, budget, NEAR)
    optimum = least(problem_of(CONV, "softened", EXACT.refit_weight), budget)
    assert solution.certificate.bound - 1e-9 <= optimum <= solution.certificate.objective + 1e-7
    assert any("no dense layer reads 0" in note for note in solution.certificate.notes)


@pytest.mark.parametrize("changes", [1, 3])
def test_within_a_trust_region_units_may_come_back_and_no_mask_of_it_is_below_the_bound(changes: int) -> None:
    base = {FIRST: np.array([1, 1, 0, 1, 0, 1]), SECOND: np.array([1, 0, 1, 1, 0])}
    stacked = np.concatenate(list(base.values())).astype(float)
    budget = MaskBudget(units=7, changes=changes)
    solution = choose(DEEP, budget, NEAR, mask=base)
    problem = problem_of(DEEP, "softened", EXACT.refit_weight, stacked)
    optimum = least(problem, budget)
    assert solution.certificate.bound - 1e-9 <= optimum <= solution.certificate.objective + 1e-7
    assert sum(int(np.sum(solution.masks[k] != base[k].astype(bool))) for k in base) <= changes
    assert {k: v.tolist() for k, v in solution.base.items()} == {k: v.astype(bool).tolist() for k, v in base.items()}


@pytest.mark.parametrize("solver", SOLVERS)
def test_any_solver_proves_the_same(solver: str) -> None:
    require_installed(solver)
    [layer] = WIDE.gates
    budget, settings = MaskBudget(counts={layer: 4}), replace(EXACT, integer=False, gap=1e-2, refit_weight=1.0)
    claimed = choose(WIDE, budget, replace(settings, solver=solver)).certificate
    assert claimed.solver == solver
    assert claimed.bound == pytest.approx(choose(WIDE, budget, settings).certificate.bound, rel=2e-2)
    assert claimed.bound - 1e-9 <= least(problem_of(WIDE, "softened", 1.0), budget) <= claimed.objective + 1e-7


def test_a_relaxation_alone_is_proved_and_rounded() -> None:
    solution = choose(WIDE, MaskBudget(counts={next(iter(WIDE.gates)): 4}), replace(EXACT, integer=False, gap=1e-3))
    claimed = solution.certificate
    assert claimed.nodes == 1
    assert len(solution.proof.leaves) == 1
    assert claimed.bound <= claimed.relaxed_objective + 1e-9 <= claimed.objective + 1e-6
    assert solution.scores[next(iter(WIDE.gates))].sum() == pytest.approx(4.0)


def test_a_start_is_never_lost_and_one_beyond_the_budget_is_left_out() -> None:
    [layer] = WIDE.gates
    budget = MaskBudget(counts={layer: 4})
    best = choose(WIDE, budget, EXACT).masks
    few = replace(EXACT, nodes=1, swaps=0)
    again = choose(WIDE, budget, few, starts=[{layer: np.ones(12)}, best])
    assert again.masks[layer].tolist() == best[layer].tolist()


def test_a_time_limit_that_leaves_nothing_is_said() -> None:
    with pytest.raises(TimeLimitReached, match="leaves no time"):
        choose(DEEP, BUDGETS["counts"], replace(EXACT, time_limit=1e-4))


def test_a_search_that_runs_out_of_time_returns_what_is_proved_by_then() -> None:
    # Forty units whose changes cost little: the relaxation is so weak that branching would take hours.
    case = dense(17, inputs=10, hidden=(40,), classes=5, images=100)
    hard = replace(EXACT, refit_weight=1e-3, gap=1e-12, nodes=10**6, time_limit=3.0)
    claimed = choose(case, MaskBudget(units=15), hard).certificate
    assert claimed.status == "time_limit"
    assert claimed.checked
    assert claimed.bound <= claimed.objective


def test_labels_that_the_network_has_no_class_for_are_refused() -> None:
    with pytest.raises(InvalidImages, match="classes 0 to 2"):
        choose_mask(DEEP.model, DEEP.images, DEEP.labels + 7, BUDGETS["counts"], EXACT)


def test_held_layers_are_kept_whole() -> None:
    solution = choose(DEEP, MaskBudget(counts={SECOND: 2}), NEAR, held=[FIRST])
    assert list(solution.masks) == [SECOND]
    assert check_mask(DEEP.model, DEEP.images, DEEP.labels, solution).objective == pytest.approx(
        solution.certificate.objective
    )
    for masks in ({}, {FIRST: np.ones(6, dtype=bool)}):
        with pytest.raises(InvalidSolution, match="another model"):
            check_mask(DEEP.model, DEEP.images, DEEP.labels, replace(solution, masks=masks))


def test_a_solution_is_saved_and_read_again(tmp_path) -> None:
    solution = choose(DEEP, BUDGETS["several"], NEAR)
    solution.save(tmp_path)
    again = MaskSolution.load(tmp_path)
    verdict = check_mask(DEEP.model, DEEP.images, DEEP.labels, again)
    assert verdict.objective == pytest.approx(solution.certificate.objective)
    assert verdict.bound >= solution.certificate.bound - 1e-9
    (tmp_path / "mask_certificate.json").write_text("{}")
    with pytest.raises(InvalidSolution, match="cannot be read"):
        MaskSolution.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refit_weight": 0.0}, "refit_weight"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"loss": "hinge"}, "labels, softened, squared"),
        ({"nodes": 0}, "nodes"),
        ({"gap": 0.0}, "gap"),
        ({"solver_options": 5}, "solver_options"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        replace(EXACT, **change)


def test_what_is_no_budget_and_no_mask_is_refused_before_any_work() -> None:
    with pytest.raises(InvalidSetting, match="give MaskBudget"):
        choose(DEEP, {"units": 3}, EXACT)
    with pytest.raises(InvalidBudget, match="no scored layer"):
        choose(DEEP, MaskBudget(counts={"nowhere": 3}), EXACT)
    with pytest.raises(InvalidSolution, match="is no mask"):
        choose(DEEP, MaskBudget(units=3), EXACT, mask={FIRST: np.full(6, 0.5)})


@pytest.mark.parametrize(
    "budget",
    [
        MaskBudget(counts={"0": 1, "1.wide": 2}),
        MaskBudget(units=4, costs=(CostLimit("squares", (("0", "0", 2.0), ("0", "1.wide", 1.0)), 5.0),)),
    ],
    ids=["counts", "a group that reads itself"],
)
def test_over_groups_nothing_that_a_budget_admits_is_below_the_bound(budget: MaskBudget) -> None:
    case = inverted(3, images=6)
    solution = choose(case, budget, replace(NEAR, refit_weight=0.1))
    check_mask(case.model, case.images, case.labels, solution)
    optimum = least(problem_of(case, "softened", 0.1), budget)
    assert solution.certificate.status == "optimal"
    assert solution.certificate.bound - 1e-9 <= optimum <= solution.certificate.objective + 1e-6


@pytest.mark.parametrize("labels", [None, np.linspace(-1.0, 2.5, 20)], ids=["none", "quantities"])
def test_a_network_of_one_output_keeps_its_outputs_by_the_squared_loss(labels: np.ndarray | None) -> None:
    case = dense(5, inputs=4, hidden=(6,), classes=1, images=20)
    settings, budget = replace(EXACT, loss="squared"), MaskBudget(units=3)
    solution = choose_mask(case.model, case.images, labels, budget, settings)
    check_mask(case.model, case.images, labels, solution)
    (layer,) = case.gates
    masks = [{layer: np.isin(np.arange(6), kept)} for kept in itertools.combinations(range(6), 3)]
    best = min(objective_of(case.model, case.images, labels, mask, settings) for mask in masks)
    assert solution.certificate.bound <= best + 1e-9
    assert solution.certificate.objective <= best * (1 + 1e-3) + 1e-9
    with pytest.raises(InvalidModel, match="one output"):
        choose_mask(case.model, case.images, np.zeros(20, np.int64), budget, EXACT)


@pytest.mark.parametrize("label", [-1, 99])
def test_an_objective_of_labels_without_a_class_is_refused(label: int) -> None:
    labels = DEEP.labels.clone()
    labels[0] = label
    with pytest.raises(InvalidImages, match="the network has classes 0 to"):
        objective_of(DEEP.model, DEEP.images, labels, {}, replace(NEAR, loss="labels"))


def test_what_is_no_mask_by_layer_is_one_line() -> None:
    mask = np.ones(6)
    for more in (
        {"starts": {FIRST: mask}},
        {"starts": 3},
        {"starts": [mask]},
        {"mask": mask},
        {"mask": [{FIRST: mask}]},
    ):
        with pytest.raises(InvalidSolution, match=r"give .*layer"):
            choose(DEEP, MaskBudget(counts={FIRST: 2}), NEAR, **more)
