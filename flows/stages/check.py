"""Checking stored solutions again, without the solver."""

import logging
from dataclasses import asdict

import formulation
from flows import handover, tracking
from flows.errors import CheckRefused
from flows.settings import Settings
from flows.stages.score import SET_TAG
from flows.tracking import Run
from flows.translation import dataset_of
from formulation import FormulationError

LOG = logging.getLogger(__name__)


def check_solutions(settings: Settings, run: Run, scored: Run, trained: Run) -> None:
    """Check the solution of every scoring set of a score run, and log the verdicts.

    Raises CheckRefused, after all have been checked, where one does not hold.
    """
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    refused = []
    sets = tracking.runs_below(scored, "scoring set")
    for solved in sets:
        number = int(tracking.logged_tags(solved)[SET_TAG])
        name, file = f"{solved.run_id} (scoring set {number})", f"scoring_set_{number}.json"
        scoring_set = handover.load_scoring_set(scored, number)
        solution = handover.load_solution(solved)
        try:
            verdict = formulation.check(network, scoring_set.images, scoring_set.labels, solution)
        except FormulationError as error:
            refused.append(name)
            tracking.log_json(run, {"run_id": solved.run_id, "holds": False, "reason": str(error)}, file)
            LOG.error("check    %s: %s", name, error)
        else:
            LOG.info("check    %s: holds, objective %.6f", name, verdict.objective)
            tracking.log_json(run, {"run_id": solved.run_id, "holds": True, **asdict(verdict)}, file)
    tracking.log_metrics(run, {"solutions": len(sets), "solutions_refused": len(refused)})
    if refused:
        raise CheckRefused(f"{len(refused)} of {len(sets)} solutions do not hold: {', '.join(refused)}; score again")
