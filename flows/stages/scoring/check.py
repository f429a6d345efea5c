"""Checking stored solutions again, without the solver, and everything that a score run says of them."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

import formulation
import training
from flows.adapters import (
    STAGE,
    ProgramInputs,
    ProgramSpec,
    aggregate_programs,
    artifacts,
    blocks_of,
    by_block,
    differing_settings,
    program_of_run,
    programs_of,
    vouched,
    without_heads,
)
from flows.cache import EarlierResult, OnPart, StageResult, StoredResult, file_name, unheard
from flows.config import Settings
from flows.errors import ArtifactError, CheckRefused, NotProvedOptimal
from flows.stages.scoring.compared import ROUNDING, require_params, require_told, require_told_together
from flows.stages.scoring.score import instance_of
from formulation import FormulationError, Solution, Verdict
from training import Scores

LOG = logging.getLogger(__name__)
FILE = "scoring_{}.json"
REPRESENTED = 1e-3  # of the largest value: another machine may round in another order


def check_solutions(
    settings: Settings,
    scored: StoredResult,
    trained: EarlierResult,
    headed: EarlierResult | None = None,
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Check the solution of every program of a score run and the scores that pruning reads; log the verdicts.

    `headed` is the run that left the heads of the blocks, where they were scored by block.
    With `settings.exact` the bounds that duals prove are computed with outward rounding too.
    Raises CheckRefused, after all have been checked, where one is missing or does not hold, and where the run says
    something else of them; NotProvedOptimal where all hold and a gap was left open.
    """
    result = StageResult(on_part)
    asked = vouched(artifacts.logged_settings(scored), settings)
    require_params(scored, asked)
    programs = _programs(asked, scored, trained)
    runs = _runs_by_program(scored)
    held: list[StoredResult] = []
    verdicts: dict[str, Verdict] = {}
    files: dict[str, str] = {}
    refused: list[str] = []
    for which in [*programs, *sorted(set(runs) - set(programs), key=str)]:
        found = runs.get(which, [])
        ids, file = (
            ", ".join(each.run_id for each in found),
            FILE.format(file_name(str(which).replace(", ", "_").replace(" ", "_"))),
        )
        name = f"{ids or 'no run'} (scoring {which})"
        try:
            solved = _only_finished(found, known=which in programs)
            verdict = _verified(instance_of(asked, scored, trained, headed, which), solved, exact=settings.exact)
        except (FormulationError, ArtifactError, CheckRefused) as error:
            refused.append(name)
            LOG.error("check    %s: %s", name, error)
            result.add_json({"run_id": ids, "holds": False, "reason": str(error)}, file)
        else:
            held.append(solved)
            verdicts[name], files[name] = verdict, file
            LOG.info("check    %s: holds, %s", name, _in_words(verdict))
            result.add_json({"run_id": ids, "holds": True, **asdict(verdict)}, file)
    total = len(held) + len(refused)
    result.add_metrics({"solutions": total, "solutions_refused": len(refused)})
    if refused:
        raise CheckRefused(f"{len(refused)} of {total} solutions do not hold: {', '.join(refused)}; score again")
    if by_block(asked):
        _check_representations(asked, scored, trained)
    _check_told(result, dict(zip(files.items(), held, strict=True)))
    found_together = aggregate_programs(held)
    if not _agree(artifacts.logged_scores(scored), found_together.scores, tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: scores.npz is not the mean over its scoring sets; score again")
    if not _agree(artifacts.logged_importance(scored), found_together.importance, tolerance=ROUNDING):
        raise CheckRefused(f"run_id={scored.run_id}: importance.npz is not that of its solutions; score again")
    require_told_together(scored, held, found_together)
    for sentence in dict.fromkeys(sentence for verdict in verdicts.values() for sentence in verdict.unproved):
        LOG.info("check    not proved: %s", sentence)
    _require_optimal(verdicts)
    return result


def _check_told(result: StageResult, held: Mapping[tuple[str, str], StoredResult]) -> None:
    """Compare solutions that hold, by name and verdict's file, with what their runs say of them."""
    refused = []
    for (name, file), solved in held.items():
        try:
            require_told(solved, artifacts.logged_solution(solved))
        except (CheckRefused, ArtifactError) as error:
            refused.append(name)
            LOG.error("check    %s: %s", name, error)
            result.add_json({"run_id": solved.run_id, "holds": False, "reason": str(error)}, file)
    if refused:
        result.add_metrics({"solutions_refused": len(refused)})
        raise CheckRefused(f"{len(refused)} of {len(held)} solutions do not hold: {', '.join(refused)}; score again")


def _in_words(verdict: Verdict) -> str:
    exact = "" if verdict.exact_bound is None else f", {verdict.exact_bound:.9f} proved with outward rounding"
    return f"{verdict.status}: objective {verdict.objective:.6f}, bound {verdict.bound:.6f}{exact}"


def _require_optimal(verdicts: Mapping[str, Verdict]) -> None:
    """Raise NotProvedOptimal where a solution that holds was ended before its gap was closed."""
    left = {name: verdict for name, verdict in verdicts.items() if verdict.status != "optimal"}
    if left:
        said = "; ".join(f"{name}: {each.status} at a gap of {each.gap:.3g}" for name, each in left.items())
        raise NotProvedOptimal(
            f"all {len(verdicts)} solutions hold, and {len(left)} of them are not proved optimal ({said}); score again "
            "with more time, or take the scores for what they are"
        )


def _programs(asked: Settings, scored: StoredResult, trained: EarlierResult) -> list[ProgramSpec]:
    """The programs that the settings of a score run ask for, as the network has them now."""
    example, classes = artifacts.logged_scoring_set(scored, 1).images, len(artifacts.logged_classes(scored))
    network = artifacts.logged_network_for(trained, asked, example, classes)
    units = formulation.outline(network, example).units
    blocks = blocks_of(asked, network, example) if by_block(asked) else ()
    found = programs_of(asked, asked.scoring_sets, classes, blocks, units)
    return sorted(found, key=lambda each: (each.number, each.place, each.label))


def _runs_by_program(scored: StoredResult) -> dict[ProgramSpec, list[StoredResult]]:
    runs: dict[ProgramSpec, list[StoredResult]] = {}
    for each in scored.below(STAGE):
        runs.setdefault(program_of_run(each) or ProgramSpec(0), []).append(each)
    return runs


def _only_finished(found: Sequence[StoredResult], *, known: bool) -> StoredResult:
    if not known:
        raise CheckRefused("the score run asked for no scoring set of this number; score again")
    if len(found) != 1:
        raise CheckRefused(f"the score run has {len(found)} runs for this scoring set instead of one; score again")
    if not found[0].is_finished():
        raise CheckRefused(f"run_id={found[0].run_id}: this scoring set's run is not finished; score again")
    return found[0]


def _verified(instance: ProgramInputs, solved: StoredResult, *, exact: bool) -> Verdict:
    solution = artifacts.logged_solution(solved)
    _check_claims(instance, solved, solution)
    verdict = formulation.check(instance.network, instance.images, instance.labels, solution, exact=exact)
    if not _agree(artifacts.logged_scores(solved), without_heads(solution.scores), tolerance=0.0):
        raise CheckRefused(f"run_id={solved.run_id}: scores.npz differs from its solution's scores; score again")
    return verdict


def _check_representations(asked: Settings, scored: StoredResult, trained: EarlierResult) -> None:
    """Compute again what every block reads of the scoring images: a program about anything else proves nothing."""
    classes = len(artifacts.logged_classes(scored))
    for number in range(1, asked.scoring_sets + 1):
        images = artifacts.logged_scoring_set(scored, number).images
        network = artifacts.logged_network_for(trained, asked, images, classes)
        blocks = blocks_of(asked, network, images)
        for name, values in list(training.represent(blocks, images).items())[1:]:
            stored = artifacts.logged_representation(scored, number, name)
            worst = float((stored - values).abs().max()) if stored.shape == values.shape else math.inf
            if not worst <= REPRESENTED * max(1.0, float(values.abs().max())):
                raise CheckRefused(
                    f"run_id={scored.run_id}: what block {name} reads of set {number} is not what the blocks before it "
                    f"make (differs by {worst:.3g}); score again"
                )


def _check_claims(instance: ProgramInputs, solved: StoredResult, solution: Solution) -> None:
    """Compare what a certificate says of itself with the score run's settings."""
    certificate, where = solution.certificate, f"run_id={solved.run_id}: the certificate"
    if names := differing_settings(instance.settings, solution):
        raise CheckRefused(f"{where} and its score run differ in {', '.join(names)}; score again")
    if certificate.checked is not True:
        raise CheckRefused(f"{where} is of scores that were never checked; score again")


def _agree(stored: Scores, expected: Scores, *, tolerance: float) -> bool:
    return stored.keys() == expected.keys() and all(
        stored[layer].shape == values.shape and np.allclose(stored[layer], values, rtol=0.0, atol=tolerance)
        for layer, values in expected.items()
    )
