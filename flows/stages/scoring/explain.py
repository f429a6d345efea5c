"""Explanations on request: the pulls that hold each score up, and its range within the gap."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import formulation
from flows.adapters import ProgramInputs, ProgramSpec, free_core
from flows.cache import StageResult
from flows.reporting import figures
from formulation import Pull, Solution, SolverFailed, TimeLimitReached
from training import Scores

LOG = logging.getLogger(__name__)
STRONGEST = 3  # images, and cuts, that the table names per unit
PULL_COLUMNS = (
    *("layer", "unit", "score", "reduced_cost", "price"),
    *("kind", "image", "class", "node", "activation", "pull"),
)
NO_DUALS = "the solution holds no duals: no linear program was finished within the time limit"

LoggedRanges = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def log_explanation(
    result: StageResult, which: ProgramSpec, instance: ProgramInputs, solution: Solution, classes: Sequence[str]
) -> None:
    """Log the images and cuts that hold each score up, and what the images pull by class, as tables and a picture.

    Where nothing was proved, a warning and a tag say so instead.
    """
    if solution.dual_bound is None:
        _say_what_is_missing(result, "explanation", which, NO_DUALS)
        return
    LOG.info("explain  %s: which images and cuts hold each score up", which)
    labels = instance.labels
    pulls = formulation.explain(instance.network, instance.images, labels, solution, most=len(labels))
    by_class = pulls_by_class(pulls, solution.scores, len(classes))
    result.add_table(pull_columns(pulls, classes), "explanation.json")
    result.add_table(class_columns(by_class, classes), "explanation_by_class.json")
    result.add_figure(figures.pull_figure(by_class, classes), "explanation.png")
    held = len({(pull.layer, pull.unit) for pull in pulls})
    LOG.info("explain  %s: %d of %d units are held up", which, held, sum(map(len, solution.scores.values())))


def log_ranges(result: StageResult, which: ProgramSpec, instance: ProgramInputs, solution: Solution) -> None:
    """Log the range of every score over the near-optimal scores of the relaxed program, as a table and a picture.

    Where the time limit passes before all are found, or a solver fails, a warning and a tag say so instead: the scores
    need no ranges.
    """

    def report(done: int, total: int) -> None:
        if 10 * done // total != 10 * (done - 1) // total:
            LOG.info("ranges   %s: %d of %d units", which, done, total)

    try:
        given = (instance.network, instance.images, instance.labels)
        with free_core(instance.settings.threads):
            ranges = formulation.score_ranges(*given, solution, progress=report)
    except (TimeLimitReached, SolverFailed) as error:
        _say_what_is_missing(result, "ranges", which, str(error))
        return
    result.add_table(range_columns(ranges, solution.scores), "ranges.json")
    result.add_figure(figures.range_figure(ranges, solution.scores), "ranges.png")
    widths = np.concatenate([highest - lowest for lowest, highest in ranges.values()])
    result.add_metrics({"range_mean": float(widths.mean()), "range_largest": float(widths.max())})
    LOG.info("ranges   %s: %.3g wide on average, %.3g at most", which, widths.mean(), widths.max())


def pull_columns(pulls: Sequence[Pull], classes: Sequence[str]) -> dict[str, list[object]]:
    """The strongest pulls on each unit as a table with one row per pull; they come strongest first."""
    taken: Counter[tuple[str, int, str]] = Counter()
    columns: dict[str, list[object]] = {name: [] for name in PULL_COLUMNS}
    for pull in pulls:
        taken[pull.layer, pull.unit, pull.kind] += 1
        if taken[pull.layer, pull.unit, pull.kind] <= STRONGEST:
            for name, values in columns.items():
                values.append(_cell(pull, name, classes))
    return columns


def _cell(pull: Pull, column: str, classes: Sequence[str]) -> object:
    """What the table says of a pull; it kept its older words for sparsity costs and cuts."""
    match column:
        case "class":
            return classes[pull.label]
        case "price":
            return pull.sparsity_cost
        case "kind":
            return "row" if pull.kind == "cut" else pull.kind
        case _:
            return getattr(pull, column)


def pulls_by_class(pulls: Sequence[Pull], scores: Scores, classes: int) -> dict[str, NDArray[np.float64]]:
    """The pulls of images summed by class, [units, classes] per layer."""
    sums = {layer: np.zeros((len(values), classes)) for layer, values in scores.items()}
    for pull in pulls:
        if pull.kind == "image":
            sums[pull.layer][pull.unit, pull.label] += pull.pull
    return sums


def class_columns(by_class: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> dict[str, list[object]]:
    """Pulls by class as a table with one row for each class that pulls at a unit."""
    rows = [
        (layer, int(unit), classes[label], float(sums[unit, label]))
        for layer, sums in by_class.items()
        for unit, label in np.argwhere(sums > 0)
    ]
    return {name: [row[place] for row in rows] for place, name in enumerate(("layer", "unit", "class", "pull"))}


def range_columns(ranges: LoggedRanges, scores: Scores) -> dict[str, list[object]]:
    """Ranges as a table with one row per unit."""
    units = [(layer, unit) for layer, values in scores.items() for unit in range(len(values))]
    return {
        "layer": [layer for layer, _ in units],
        "unit": [unit for _, unit in units],
        "lowest": [float(ranges[layer][0][unit]) for layer, unit in units],
        "score": [float(scores[layer][unit]) for layer, unit in units],
        "highest": [float(ranges[layer][1][unit]) for layer, unit in units],
    }


def _say_what_is_missing(result: StageResult, what: str, which: ProgramSpec, reason: str) -> None:
    LOG.warning("score    %s: no %s: %s", which, what, reason)
    result.add_tags({what: f"none: {reason}"})
