"""Checking stored solutions again, without the solver."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from torch import nn

import formulation
from flows import handover, tracking
from flows.errors import CheckRefused, HandOverError
from flows.settings import Settings
from flows.stages.score import SET_TAG, mean_importance
from flows.tracking import Run
from flows.translation import dataset_of, score_settings_of
from formulation import FormulationError, Solution, Verdict
from training import Scores

LOG = logging.getLogger(__name__)
ROUNDING = 1e-12  # of a mean of scores


def check_solutions(settings: Settings, run: Run, scored: Run, trained: Run) -> None:
    """Check the solution of every scoring set of a score run and the scores that pruning reads; log the verdicts.

    Raises CheckRefused, after all have been checked, where one is missing or does not hold.
    """
    network = handover.load_network(trained, settings, dataset_of(settings))
    asked = handover.load_settings(scored)
    runs = _runs_by_number(scored)
    wanted = [str(number) for number in range(1, asked.scoring_sets + 1)]
    solutions, refused = [], []
    for number in [*wanted, *sorted(set(runs) - set(wanted))]:
        found = runs.get(number, [])
        ids, file = ", ".join(each.run_id for each in found), f"scoring_set_{number}.json"
        name = f"{ids or 'no run'} (scoring set {number})"
        try:
            solved = _only_finished(found, known=number in wanted)
            solution, verdict = _verified(network, asked, scored, solved, int(number))
        except (FormulationError, HandOverError, CheckRefused) as error:
            refused.append(name)
            LOG.error("check    %s: %s", name, error)
            tracking.log_json(run, {"run_id": ids, "holds": False, "reason": str(error)}, file)
        else:
            solutions.append(solution)
            LOG.info("check    %s: holds, objective %.6f", name, verdict.objective)
            tracking.log_json(run, {"run_id": ids, "holds": True, **asdict(verdict)}, file)
    total = len(solutions) + len(refused)
    tracking.log_metrics(run, {"solutions": total, "solutions_refused": len(refused)})
    if refused:
        raise CheckRefused(f"{len(refused)} of {total} solutions do not hold: {', '.join(refused)}; score again")
    mean = formulation.mean_scores([solution.scores for solution in solutions])
    if not _agree(handover.load_scores(scored), mean, tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: scores.npz is not the mean over its scoring sets; score again")
    if not _agree(handover.load_importance(scored), mean_importance(solutions), tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: importance.npz is not that of its solutions; score again")


def _runs_by_number(scored: Run) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {}
    for each in tracking.runs_below(scored, "scoring set"):
        runs.setdefault(tracking.logged_tags(each).get(SET_TAG, "without a number"), []).append(each)
    return runs


def _only_finished(found: Sequence[Run], *, known: bool) -> Run:
    if not known:
        raise CheckRefused("the score run asked for no scoring set of this number; score again")
    if len(found) != 1:
        raise CheckRefused(f"the score run has {len(found)} runs for this scoring set instead of one; score again")
    if not tracking.is_finished(found[0]):
        raise CheckRefused(f"run_id={found[0].run_id}: this scoring set's run is not finished; score again")
    return found[0]


def _verified(network: nn.Module, asked: Settings, scored: Run, solved: Run, number: int) -> tuple[Solution, Verdict]:
    scoring_set = handover.load_scoring_set(scored, number)
    solution = handover.load_solution(solved)
    _check_claims(asked, solved, solution)
    verdict = formulation.check(network, scoring_set.images, scoring_set.labels, solution)
    if not _agree(handover.load_scores(solved), solution.scores, tolerance=0.0):
        raise CheckRefused(f"run_id={solved.run_id}: scores.npz differs from its solution's scores; score again")
    return solution, verdict


def _check_claims(asked: Settings, solved: Run, solution: Solution) -> None:
    """Compare what a certificate says of itself with the score run's settings and with the solver's last round."""
    certificate, where = solution.certificate, f"run_id={solved.run_id}: the certificate"
    wanted = json.loads(json.dumps(score_settings_of(asked).to_dict()))
    stated = dict(certificate.settings)
    if names := sorted(name for name in {*wanted, *stated} if wanted.get(name) != stated.get(name)):
        raise CheckRefused(f"{where} and its score run differ in {', '.join(names)}; score again")
    if certificate.checked is not True:
        raise CheckRefused(f"{where} is of scores that were never checked; score again")
    if len(solution.rounds) != certificate.rounds or not solution.rounds:
        raise CheckRefused(
            f"{where} counts {certificate.rounds} rounds, its history {len(solution.rounds)}; score again"
        )
    last, proved = solution.rounds[-1], certificate.proved_bound
    # A relaxation's bound is what is proved after its last round; `formulation.check` has computed that again.
    bound = last.bound if last.phase == "integer" else certificate.bound if proved is None else proved
    for name, said, found in (
        ("bound", certificate.bound, bound),
        ("objective", certificate.objective, last.objective),
    ):
        if said != found:
            raise CheckRefused(f"{where} says {name} {said:.9g}, its last round {found:.9g}; score again")


def _agree(stored: Scores, expected: Scores, *, tolerance: float) -> bool:
    return stored.keys() == expected.keys() and all(
        stored[layer].shape == values.shape and np.allclose(stored[layer], values, rtol=0.0, atol=tolerance)
        for layer, values in expected.items()
    )
