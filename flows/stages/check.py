"""Checking stored solutions again, without the solver."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

import formulation
import training
from flows import handover, tracking
from flows.errors import CheckRefused, HandOverError
from flows.gathering import STAGE, gathered, program_of_run
from flows.programs import Instance, Program, blocks_of, by_block, programs_of, without_heads
from flows.settings import Settings
from flows.stages.score import instance_of
from flows.tracking import Run
from formulation import FormulationError, Solution, Verdict
from training import Scores

LOG = logging.getLogger(__name__)
FILE = "scoring_{}.json"
ROUNDING = 1e-12  # of a mean of scores
REPRESENTED = 1e-3  # of the largest value: another machine may round in another order


def check_solutions(settings: Settings, run: Run, scored: Run, trained: Run, headed: Run | None = None) -> None:
    """Check the solution of every program of a score run and the scores that pruning reads; log the verdicts.

    `headed` is the run that left the heads of the blocks, where they were scored by block.
    Raises CheckRefused, after all have been checked, where one is missing or does not hold.
    """
    asked = handover.load_settings(scored)
    programs = _programs(asked, scored, trained)
    runs = _runs_by_program(scored)
    held, refused = [], []
    for which in [*programs, *sorted(set(runs) - set(programs), key=str)]:
        found = runs.get(which, [])
        ids, file = (
            ", ".join(each.run_id for each in found),
            FILE.format(str(which).replace(", ", "_").replace(" ", "_")),
        )
        name = f"{ids or 'no run'} (scoring {which})"
        try:
            solved = _only_finished(found, known=which in programs)
            verdict = _verified(instance_of(asked, scored, trained, headed, which), solved)
        except (FormulationError, HandOverError, CheckRefused) as error:
            refused.append(name)
            LOG.error("check    %s: %s", name, error)
            tracking.log_json(run, {"run_id": ids, "holds": False, "reason": str(error)}, file)
        else:
            held.append(solved)
            LOG.info("check    %s: holds, objective %.6f", name, verdict.objective)
            tracking.log_json(run, {"run_id": ids, "holds": True, **asdict(verdict)}, file)
    total = len(held) + len(refused)
    tracking.log_metrics(run, {"solutions": total, "solutions_refused": len(refused)})
    if refused:
        raise CheckRefused(f"{len(refused)} of {total} solutions do not hold: {', '.join(refused)}; score again")
    if by_block(asked):
        _check_representations(asked, scored, trained)
    found_together = gathered(held)
    if not _agree(handover.load_scores(scored), found_together.scores, tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: scores.npz is not the mean over its scoring sets; score again")
    if not _agree(handover.load_importance(scored), found_together.importance, tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: importance.npz is not that of its solutions; score again")


def _programs(asked: Settings, scored: Run, trained: Run) -> list[Program]:
    """The programs that the settings of a score run ask for, as the network has them now."""
    example, classes = handover.load_scoring_set(scored, 1).images, len(handover.load_classes(scored))
    network = handover.load_network_for(trained, asked, example, classes)
    units = formulation.outline(network, example).units
    blocks = blocks_of(asked, network, example) if by_block(asked) else ()
    found = programs_of(asked, asked.scoring_sets, classes, blocks, units)
    return sorted(found, key=lambda each: (each.number, each.place, each.label))


def _runs_by_program(scored: Run) -> dict[Program, list[Run]]:
    runs: dict[Program, list[Run]] = {}
    for each in tracking.runs_below(scored, STAGE):
        runs.setdefault(program_of_run(each) or Program(0), []).append(each)
    return runs


def _only_finished(found: Sequence[Run], *, known: bool) -> Run:
    if not known:
        raise CheckRefused("the score run asked for no scoring set of this number; score again")
    if len(found) != 1:
        raise CheckRefused(f"the score run has {len(found)} runs for this scoring set instead of one; score again")
    if not tracking.is_finished(found[0]):
        raise CheckRefused(f"run_id={found[0].run_id}: this scoring set's run is not finished; score again")
    return found[0]


def _verified(instance: Instance, solved: Run) -> Verdict:
    solution = handover.load_solution(solved)
    _check_claims(instance, solved, solution)
    verdict = formulation.check(instance.network, instance.images, instance.labels, solution)
    if not _agree(handover.load_scores(solved), without_heads(solution.scores), tolerance=0.0):
        raise CheckRefused(f"run_id={solved.run_id}: scores.npz differs from its solution's scores; score again")
    return verdict


def _check_representations(asked: Settings, scored: Run, trained: Run) -> None:
    """Compute again what every block reads of the scoring images: a program about anything else proves nothing."""
    classes = len(handover.load_classes(scored))
    for number in range(1, asked.scoring_sets + 1):
        images = handover.load_scoring_set(scored, number).images
        network = handover.load_network_for(trained, asked, images, classes)
        blocks = blocks_of(asked, network, images)
        for name, values in list(training.represent(blocks, images).items())[1:]:
            stored = handover.load_representation(scored, number, name)
            worst = float((stored - values).abs().max()) if stored.shape == values.shape else math.inf
            if not worst <= REPRESENTED * max(1.0, float(values.abs().max())):
                raise CheckRefused(
                    f"run_id={scored.run_id}: what block {name} reads of set {number} is not what the blocks before it "
                    f"make (differs by {worst:.3g}); score again"
                )


def _check_claims(instance: Instance, solved: Run, solution: Solution) -> None:
    """Compare what a certificate says of itself with the score run's settings and with the solver's last round."""
    certificate, where = solution.certificate, f"run_id={solved.run_id}: the certificate"
    wanted = json.loads(json.dumps(instance.settings.to_dict()))
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
