"""The check of a mask solution: arithmetic that refuses whatever was altered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formulation import CheckFailed, InvalidSolution
from formulation.deadline import NEVER
from formulation.masks import MaskBudget, MaskSettings, MaskSolution, check_mask, choose_mask
from formulation.masks.budgets import Branch
from formulation.masks.checks import bound_of_leaf, first_order, require_cover
from formulation.masks.mask_inputs import read_classes
from formulation.masks.mask_solution import Leaf, MaskProof, proved_budget
from tests.formulation.cases import dense

CASE = dense(31, hidden=(6, 5), images=16)
FIRST, SECOND = CASE.gates
SETTINGS = MaskSettings(temperature=2.0, refit_weight=0.05, gap=1e-2, nodes=300, time_limit=60.0)


@pytest.fixture(scope="module")
def solution() -> MaskSolution:
    return choose_mask(CASE.model, CASE.images, CASE.labels, MaskBudget(counts={FIRST: 2, SECOND: 3}), SETTINGS)


def checked(solution: MaskSolution) -> None:
    check_mask(CASE.model, CASE.images, CASE.labels, solution)


def test_an_answer_holds(solution: MaskSolution) -> None:
    assert solution.certificate.checked
    checked(solution)


@pytest.mark.parametrize("what", ["objective", "bound", "gap"])
def test_a_figure_that_is_better_than_it_is_is_refused(solution: MaskSolution, what: str) -> None:
    claimed = solution.certificate
    better = {"objective": claimed.objective * 0.99, "bound": claimed.objective * 1.01, "gap": claimed.gap + 0.01}
    with pytest.raises(CheckFailed):
        checked(replace(solution, certificate=replace(claimed, **{what: better[what]})))


def test_another_mask_or_a_mask_beyond_the_budget_is_refused(solution: MaskSolution) -> None:
    turned = {name: mask[::-1].copy() for name, mask in solution.masks.items()}
    with pytest.raises(CheckFailed):
        checked(replace(solution, masks=turned))
    more = {**solution.masks, FIRST: np.ones(6, dtype=bool)}
    with pytest.raises(CheckFailed, match="pass the budget"):
        checked(replace(solution, masks=more))


def test_changes_of_other_weights_are_refused(solution: MaskSolution) -> None:
    name, change = next(iter(solution.changes.items()))
    for made, error in ((change + 0.1, CheckFailed), (change[:, 1:], InvalidSolution)):
        with pytest.raises(error):
            checked(replace(solution, changes={**solution.changes, name: made}))


def test_any_duals_are_a_proof_of_something_but_not_of_this_bound(solution: MaskSolution) -> None:
    other = replace(solution.proof, duals=solution.proof.duals * 0.5)
    with pytest.raises(CheckFailed, match="its duals prove"):
        checked(replace(solution, proof=other))


def test_leaves_that_leave_masks_out_or_have_duals_below_0_are_refused(solution: MaskSolution) -> None:
    leaves = solution.proof.leaves
    half = (replace(leaves[0], path=(Branch("unit", 0, 0, True),)),)
    with pytest.raises(InvalidSolution, match="cover every mask"):
        checked(replace(solution, proof=MaskProof(solution.proof.duals, half)))
    negative = tuple(replace(leaf, rows=leaf.rows - 1.0) for leaf in leaves)
    with pytest.raises(InvalidSolution, match="below 0"):
        checked(replace(solution, proof=MaskProof(solution.proof.duals, negative)))
    short = tuple(Leaf(leaf.path, leaf.weights[:-1], leaf.rows) for leaf in leaves)
    with pytest.raises(InvalidSolution, match="one per cut"):
        checked(replace(solution, proof=MaskProof(solution.proof.duals, short)))


def forged(solution: MaskSolution, **leaf: float) -> MaskSolution:
    """Every dual of the leaves one value, and the bound the objective."""
    leaves = tuple(
        replace(each, **{name: np.full_like(getattr(each, name), value) for name, value in leaf.items()})
        for each in solution.proof.leaves
    )
    claimed = replace(solution.certificate, bound=solution.certificate.objective, gap=0.0, status="optimal")
    return replace(solution, certificate=claimed, proof=replace(solution.proof, leaves=leaves))


@pytest.mark.parametrize(
    "leaf",
    [
        {"rows": np.inf},
        {"rows": np.nan},
        {"rows": 1e308},
        {"rows": 1e40},
        {"weights": np.inf},
        {"weights": np.nan},
        {"weights": 1e308},
    ],
)
def test_no_bound_is_forged_by_duals_that_no_number_can_be_made_of(
    solution: MaskSolution, leaf: dict[str, float], tmp_path: Path
) -> None:
    made = forged(solution, **leaf)
    for each in (made, MaskSolution.load(made.save(tmp_path))):
        with pytest.raises((InvalidSolution, CheckFailed)):
            checked(each)


@pytest.mark.parametrize("bound", [np.nan, np.inf, -np.inf])
def test_a_bound_that_is_no_number_is_refused(solution: MaskSolution, bound: float) -> None:
    with pytest.raises(CheckFailed, match="bound"):
        checked(replace(solution, certificate=replace(solution.certificate, bound=bound, gap=0.0)))


@pytest.mark.parametrize("size", [1e100, 1e200, 1e308])
def test_no_bound_is_forged_by_residuals_whose_squares_are_no_number(size: float) -> None:
    asked = replace(SETTINGS, loss="squared", nodes=1, swaps=0)
    made = choose_mask(CASE.model, CASE.images, CASE.labels, MaskBudget(counts={FIRST: 2, SECOND: 3}), asked)
    proof = replace(made.proof, duals=np.full_like(made.proof.duals, size))
    with pytest.raises((InvalidSolution, CheckFailed)):
        checked(forged(replace(made, proof=proof)))


def test_huge_duals_of_rows_that_cancel_each_other_prove_no_more_than_the_best_mask_has(solution: MaskSolution) -> None:
    network, pixels, labels = read_classes(CASE.model, CASE.images, CASE.labels, SETTINGS, (), NEVER)
    problem, budget = first_order(network, pixels, labels, np.ones(11), SETTINGS), proved_budget(solution.certificate)
    cuts, draw = [problem.cut(each) for each in solution.proof.duals], np.random.default_rng(0)
    weights = np.ones(len(cuts))
    for size in np.linspace(0, 30, 1000):
        rows = 10**size * draw.choice([1.0, 1 + 1e-15, 1 - 1e-15, 1 + 5e-16], 4)
        bound = bound_of_leaf(problem, budget, Leaf((), weights, rows), cuts)
        assert bound <= solution.certificate.objective + 1e-7


def test_parts_of_units_are_no_mask(solution: MaskSolution) -> None:
    layers = {FIRST: (6, 2), SECOND: (5, 3)}
    parts = {name: np.full(units, kept / units) for name, (units, kept) in layers.items()}
    for change in ({"masks": parts}, {"base": parts}):
        with pytest.raises(InvalidSolution, match="neither 0 nor 1"):
            checked(replace(solution, **change))


def test_another_loss_without_changes_and_figures_of_data_sets_are_refused(solution: MaskSolution) -> None:
    for change in ({"unchanged_loss": -5.0}, {"objectives": {"one": 1.0}}):
        with pytest.raises(CheckFailed):
            checked(replace(solution, certificate=replace(solution.certificate, **change)))


def test_what_is_no_solution_is_one_line(solution: MaskSolution) -> None:
    for other in (None, {}, replace(solution, certificate=None)):
        with pytest.raises(InvalidSolution, match=r"give what `choose_mask`"):
            checked(other)  # type: ignore[arg-type]
    for name in ("objectives", "units", "objective", "bound", "gap", "unchanged_loss"):
        with pytest.raises(InvalidSolution, match=f"{name} in the certificate"):
            checked(replace(solution, certificate=replace(solution.certificate, **{name: None})))
    with pytest.raises(InvalidSolution, match="objectives in the certificate"):
        checked(replace(solution, certificate=replace(solution.certificate, objectives={"one": None})))


def test_another_budget_is_refused(solution: MaskSolution) -> None:
    claimed = replace(solution.certificate, budget=MaskBudget(counts={FIRST: 3, SECOND: 3}).to_dict())
    with pytest.raises(CheckFailed, match="pass the budget"):
        checked(replace(solution, certificate=claimed))
    with pytest.raises(InvalidSolution, match="damaged"):
        checked(replace(solution, certificate=replace(solution.certificate, budget={"counts": 3})))


def test_another_network_and_other_images_are_refused(solution: MaskSolution) -> None:
    other = dense(13, hidden=(6, 5), images=16)
    for model, images, said in (
        (other.model, CASE.images, "another model"),
        (CASE.model, other.images, "other images .* a DataLoader that does not shuffle"),
    ):
        with pytest.raises(InvalidSolution, match=said):
            check_mask(model, images, CASE.labels, solution)


def test_a_branching_covers_every_mask_where_both_sides_are_there() -> None:
    up, down = Branch("unit", 0, 0, True), Branch("unit", 0, 0, False)
    inner = (Branch("width", 1, 2, True), Branch("width", 1, 2, False))
    require_cover([()])
    require_cover([(up,), (down, inner[0]), (down, inner[1])])
    for broken in ([], [(up,)], [(up,), ()], [(up,), (down, inner[0])], [(up,), (Branch("unit", 1, 0, False),)]):
        with pytest.raises(InvalidSolution):
            require_cover(broken)
