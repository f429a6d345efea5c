"""The check of a mask solution: arithmetic that refuses whatever was altered."""

from dataclasses import replace

import numpy as np
import pytest

from formulation import CheckFailed, InvalidSolution
from formulation.masks import MaskBudget, MaskSettings, MaskSolution, check_mask, choose_mask
from formulation.masks.mask_budgets import Branch
from formulation.masks.mask_checks import require_cover
from formulation.masks.mask_solution import Leaf, MaskProof
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


def test_another_budget_is_refused(solution: MaskSolution) -> None:
    claimed = replace(solution.certificate, budget=MaskBudget(counts={FIRST: 3, SECOND: 3}).to_dict())
    with pytest.raises(CheckFailed, match="pass the budget"):
        checked(replace(solution, certificate=claimed))
    with pytest.raises(InvalidSolution, match="damaged"):
        checked(replace(solution, certificate=replace(solution.certificate, budget={"counts": 3})))


def test_another_network_and_other_images_are_refused(solution: MaskSolution) -> None:
    other = dense(13, hidden=(6, 5), images=16)
    for model, images in ((other.model, CASE.images), (CASE.model, other.images)):
        with pytest.raises(InvalidSolution, match="another model"):
            check_mask(model, images, CASE.labels, solution)


def test_a_branching_covers_every_mask_where_both_sides_are_there() -> None:
    up, down = Branch("unit", 0, 0, True), Branch("unit", 0, 0, False)
    inner = (Branch("width", 1, 2, True), Branch("width", 1, 2, False))
    require_cover([()])
    require_cover([(up,), (down, inner[0]), (down, inner[1])])
    for broken in ([], [(up,)], [(up,), ()], [(up,), (down, inner[0])], [(up,), (Branch("unit", 1, 0, False),)]):
        with pytest.raises(InvalidSolution):
            require_cover(broken)
