"""Forgeries of a stored solution: each alters what an honest call says, as consistently as it can, and is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from formulation import FormulationError, Solution, lower, score
from formulation.relaxation.loss import cross_entropy
from formulation.relaxation.sparsity import sparsity
from formulation.solution import Round, relative_gap
from formulation.solve import proved_bound, search
from formulation.verify import claims
from tests.formulation.verify.solved import CASE, PUBLISHED, SOLVED, checked

Forgery = Callable[[Solution], Solution]


def claiming(solution: Solution, **changes: Any) -> Solution:
    """The solution with these claims, and the notes that go with them."""
    certificate = replace(solution.certificate, **changes)
    if certificate.status != "optimal" and "notes" not in changes:
        said = f"ended by {certificate.status} at a relative gap of {certificate.gap:.3g}: "
        said += "the scores are not proved optimal"
        certificate = replace(certificate, notes=(said,))
    return replace(solution, certificate=certificate)


def ending(solution: Solution, **changes: Any) -> Solution:
    """The solution with another last round, its gap to match."""
    last = replace(solution.rounds[-1], **changes)
    last = replace(last, gap=relative_gap(last.objective, last.bound))
    return replace(solution, rounds=(*solution.rounds[:-1], last))


def with_rounds(change: Callable[[Round], Round]) -> Forgery:
    return lambda solution: replace(solution, rounds=tuple(map(change, solution.rounds)))


def with_gap_lowered(solution: Solution) -> Solution:
    assert solution.certificate.gap > 5e-7
    return claiming(solution, gap=solution.certificate.gap - 5e-7)


def with_bound_raised(solution: Solution) -> Solution:
    bound = solution.certificate.bound + 5e-7
    return ending(claiming(solution, bound=bound, gap=relative_gap(solution.certificate.objective, bound)), bound=bound)


def with_bound_raised_everywhere(solution: Solution) -> Solution:
    raised = with_bound_raised(solution)
    return claiming(raised, proved_bound=raised.certificate.bound)


def with_objective_lowered(solution: Solution) -> Solution:
    certificate, weight = solution.certificate, PUBLISHED.loss_weight
    loss = certificate.cross_entropy - 1e-6
    objective = weight * loss + certificate.sparsity
    gap = relative_gap(objective, certificate.bound)
    return ending(claiming(solution, objective=objective, cross_entropy=loss, gap=gap), objective=objective)


def ones(solution: Solution) -> dict[str, Any]:
    """Scores, parts and objective where every unit is critical."""
    network = lower(CASE.model, CASE.images)
    scores = {name: np.ones(units) for name, units in network.units.items()}
    loss = float(cross_entropy(network.evaluate(CASE.pixels), CASE.labels.numpy()).mean())
    term = sparsity(network, network.stack(scores), "units")
    return {"scores": scores, "cross_entropy": loss, "sparsity": term, "objective": PUBLISHED.loss_weight * loss + term}


def with_ones_at_gap_ten(solution: Solution) -> Solution:
    found = ones(solution)
    scores = found.pop("scores")
    made = claiming(solution, **found, status="time_limit", gap=10.0, seconds=600.0)
    return replace(made, scores=scores)


def with_ones_and_all_to_match(solution: Solution) -> Solution:
    """The bound and its proof stay true, rounds, gap, notes and seconds are rewritten to match."""
    found = ones(solution)
    scores, objective = found.pop("scores"), found["objective"]
    gap = relative_gap(objective, solution.certificate.bound)
    made = claiming(solution, **found, status="time_limit", gap=gap, seconds=600.0)
    every = tuple(replace(r, objective=objective, gap=relative_gap(objective, r.bound)) for r in solution.rounds)
    return replace(made, scores=scores, rounds=every)


def without_duals(solution: Solution) -> Solution:
    return replace(claiming(solution, proved_bound=None), dual_bound=None, reduced_costs={})


def with_relaxation_at_the_objective(solution: Solution) -> Solution:
    objective = solution.certificate.objective
    raised = [
        replace(r, objective=objective, gap=relative_gap(objective, r.bound)) if r.phase == "relaxation" else r
        for r in solution.rounds
    ]
    return replace(claiming(solution, relaxation=objective), rounds=tuple(raised))


def without_the_first_round(solution: Solution) -> Solution:
    assert len(solution.rounds) > 1
    return claiming(replace(solution, rounds=solution.rounds[1:]), rounds=len(solution.rounds) - 1)


def without_the_last_round(solution: Solution) -> Solution:
    assert len(solution.rounds) > 1
    return claiming(replace(solution, rounds=solution.rounds[:-1]), rounds=len(solution.rounds) - 1)


def without_its_relaxation(solution: Solution) -> Solution:
    kept = [r for r in solution.rounds if r.phase == "integer"]
    numbered = tuple(replace(r, index=k) for k, r in enumerate(kept))
    return claiming(replace(solution, rounds=numbered), rounds=len(numbered))


def with_reduced_costs_moved(solution: Solution) -> Solution:
    moved = {name: values + 3e-7 for name, values in solution.reduced_costs.items()}
    return replace(solution, reduced_costs=moved)


def claim(**changes: Any) -> Forgery:
    return lambda solution: claiming(solution, **changes)


FORGERIES: dict[str, tuple[str, Forgery, str]] = {
    "a gap lowered by less than 1e-6": ("relaxed", with_gap_lowered, "says gap"),
    "a bound raised by less than 1e-6, gap and last round to match": ("relaxed", with_bound_raised, "says.* bound"),
    "the proved bound raised with it": ("relaxed", with_bound_raised_everywhere, "says proved bound"),
    "an objective lowered by 2e-5 with its parts, gap and last round": ("relaxed", with_objective_lowered, "objective"),
    "scores of 1 at a gap of ten": ("pattern", with_ones_at_gap_ten, "says gap"),
    "scores of 1 by a time limit, all to match": ("pattern", with_ones_and_all_to_match, "status time_limit"),
    "a time limit that was not met": ("relaxed", claim(status="time_limit"), "says status time_limit"),
    "a time limit, met": ("relaxed", claim(status="time_limit", seconds=600.0), "says status time_limit"),
    "a round limit that was not met": ("relaxed", claim(status="round_limit"), "says status round_limit"),
    "a search that did not stall": ("pattern", claim(status="stalled"), "says status stalled"),
    "another solver": ("relaxed", claim(solver="gurobi"), "says solver"),
    "no time at all": ("relaxed", claim(seconds=0.0), "0 seconds"),
    "no cuts": ("relaxed", claim(cuts=0), "0 cuts"),
    "another residual": ("relaxed", claim(largest_residual=1e-7), "says largest residual"),
    "checked and no residual": ("relaxed", claim(largest_residual=None), "checked and largest residual"),
    "never checked": ("relaxed", claim(checked=False), "checked and largest residual"),
    "a note more": ("relaxed", claim(notes=("proved by two solvers",)), "notes"),
    "history cut at its beginning": ("integer", without_the_first_round, "round 0 has the index 1"),
    "history cut at its end": ("integer", without_the_last_round, "says (objective|optimal|bound)"),
    "history without its relaxation": ("integer", without_its_relaxation, "rounds"),
    "a count of rounds": ("relaxed", claim(rounds=99), "says rounds 99"),
    "a round's gap": ("relaxed", with_rounds(lambda r: replace(r, gap=r.gap / 2)), "round 0 has a gap"),
    "rounds after the end": ("relaxed", with_rounds(lambda r: replace(r, seconds=r.seconds + 1e4)), "seconds"),
    "cuts of a round": ("relaxed", with_rounds(lambda r: replace(r, cuts=r.cuts + 10**6)), "cuts"),
    "an integer program's duals removed": ("integer", without_duals, "no duals"),
    "a relaxed program's duals removed": ("relaxed", without_duals, "duals prove"),
    "an integer program's proved bound left out": ("integer", claim(proved_bound=None), "no proved bound"),
    "a relaxation raised to the objective": ("whole scores", with_relaxation_at_the_objective, "says relaxation"),
    "a relaxation raised, its rounds not": ("whole scores", claim(relaxation=0.5), "says relaxation"),
    "a relaxation left out": ("integer", claim(relaxation=None), "lacks"),
    "a relaxed change beyond [0, 1]": ("integer", claim(relaxed_change={"1": 2.0, "3": 0.0}), "relaxed change"),
    "a relaxed change of another layer": ("integer", claim(relaxed_change={"1": 0.0, "9": 0.0}), "relaxed change"),
    "a relaxed program with a relaxation": ("relaxed", claim(relaxation=0.0), "relaxation"),
    "reduced costs moved by 3e-7": ("relaxed", with_reduced_costs_moved, "reduced costs"),
    "fewer columns": ("relaxed", claim(columns=3), "3 columns"),
    "fewer unstable": ("relaxed", claim(unstable=0), "0 unstable"),
    "other images": ("relaxed", claim(images_hash="0" * 64), "images_hash"),
    "another network": ("relaxed", claim(model_hash="0" * 64), "model_hash"),
    "a smaller gap asked for": (
        "relaxed",
        lambda s: claiming(s, settings={**s.certificate.settings, "gap": s.certificate.gap / 2}),
        "says optimal",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_by_the_name_of_the_field(name: str, solutions: dict[str, Solution]) -> None:
    kind, forgery, says = FORGERIES[name]
    checked(solutions[kind])
    with pytest.raises(FormulationError) as refused:
        checked(forgery(solutions[kind]))
    assert re.search(says, str(refused.value)), str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_an_integer_bound_beyond_its_relaxation_is_named_as_the_solvers_word(solutions: dict[str, Solution]) -> None:
    solution = solutions["whole scores"]
    assert solution.certificate.bound > solution.certificate.proved_bound + 1e-3
    said = " ".join(checked(solution).unproved)
    assert "integer program's bound" in said
    assert "the solver's word" in said
    assert "other scores with an objective within the gap may exist" in said
    assert "integer program's bound" not in " ".join(checked(solutions["relaxed"]).unproved)


def test_an_honest_round_limit_holds_and_says_so() -> None:
    settings = replace(SOLVED["pattern"], max_rounds=3, gap=1e-9)
    solution = score(CASE.model, CASE.images, CASE.labels, settings)
    assert solution.certificate.status == "round_limit"
    assert checked(solution).status == "round_limit"


def test_the_checks_idea_of_a_stalled_search_is_that_of_the_search() -> None:
    assert (claims.PATIENCE, claims.IDLE_SHARE) == (search.PATIENCE, search.IDLE_SHARE)
    assert claims.UNPROVED >= proved_bound.UNPROVED
