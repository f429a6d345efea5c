"""Aggregation of solved programs: the blocks of a network merged, scoring sets and classes averaged."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import formulation
from flows.adapters import artifacts
from flows.adapters.programs import ALL_CLASSES, ProgramSpec, without_heads
from flows.cache import EarlierResult
from formulation import Certificate, Solution
from training import Scores

STAGE = "scoring set"
SET_TAG, BLOCK_TAG, PLACE_TAG, CLASS_TAG = "scoring_set", "block", "block_place", "scoring_class"


@dataclass(frozen=True, eq=False)
class AggregatedScores:
    """Means over scoring sets and classes of the values of a whole network's layers; the certificates of all programs.

    `reduced_costs` are empty where no program proved any.
    """

    scores: Scores
    importance: Scores
    reduced_costs: Scores
    certificates: tuple[Certificate, ...]


def tags_of(program: ProgramSpec) -> dict[str, str]:
    """The tags that say of a run which program it solves."""
    tags = {"stage": STAGE, SET_TAG: str(program.number)}
    if program.block:
        tags |= {BLOCK_TAG: program.block, PLACE_TAG: str(program.place)}
    if program.label != ALL_CLASSES:
        tags[CLASS_TAG] = str(program.label)
    return tags


def program_of_run(run: EarlierResult) -> ProgramSpec | None:
    """The program that a run of `tags_of` solves; None where it does not say."""
    tags = run.tags()
    if not tags.get(SET_TAG, "").isdigit():
        return None
    return ProgramSpec(
        int(tags[SET_TAG]), tags.get(BLOCK_TAG, ""), int(tags.get(PLACE_TAG, 0)), int(tags.get(CLASS_TAG, ALL_CLASSES))
    )


def aggregate_programs(runs: Sequence[EarlierResult]) -> AggregatedScores:
    """What the solutions of these runs say together, whatever the order of the runs."""
    found = [(program_of_run(run) or ProgramSpec(0), artifacts.logged_solution(run)) for run in runs]
    ordered = sorted(found, key=lambda pair: (pair[0].number, pair[0].label, pair[0].place))
    return aggregate_sets([(program, solution) for program, solution in ordered])


def aggregate_sets(solved: Sequence[tuple[ProgramSpec, Solution]]) -> AggregatedScores:
    """As `aggregate_programs`, of solutions in hand, those of one set and class in the order of their blocks."""
    groups: dict[tuple[int, int], list[Solution]] = defaultdict(list)
    for program, solution in solved:
        groups[program.number, program.label].append(solution)
    costs = [[each.reduced_costs for each in group] for group in groups.values()]
    return AggregatedScores(
        scores=_mean([[each.scores for each in group] for group in groups.values()]),
        importance=_mean([[formulation.importance(each) for each in group] for group in groups.values()]),
        reduced_costs=_mean([each for each in costs if all(each)]) if any(all(each) for each in costs) else {},
        certificates=tuple(solution.certificate for _, solution in solved),
    )


def _mean(groups: Sequence[Sequence[Scores]]) -> Scores:
    """The mean over groups, each of which has all blocks of the network."""
    merged = [formulation.merged_scores([without_heads(each) for each in group]) for group in groups]
    return formulation.mean_scores(merged)
