"""Scoring: draw the sets, solve each program, put together what they say."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import formulation
import training
from flows.adapters import (
    ALL_CLASSES,
    AggregatedScores,
    ProgramInputs,
    ProgramSpec,
    aggregate_programs,
    artifacts,
    block_instance,
    blocks_of,
    dataset_of,
    program_of_run,
    scoring_sets_of,
    solved,
    whole_instance,
    without_heads,
)
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.reporting import figures
from flows.stages.scoring.explain import log_explanation, log_ranges
from formulation import Certificate, Round, Solution

LOG = logging.getLogger(__name__)
STATUS_TAG = "certificate.status"
CERTIFICATES, SCORES = "certificates.json", "scores.json"
# Under the names of stored solutions.
TOLD = (
    *("status", "checked", "objective", "bound", "proved_bound", "gap", "rounds", "seconds", "images", "columns"),
    *("rows", "unstable", "solver", "solver_version"),
)
MEASURED = (
    *("objective", "bound", "gap", "cross_entropy", "sparsity", "proved_bound", "relaxation", "rounds", "seconds"),
    *("images", "columns", "rows", "unstable", "largest_residual"),
)
CHANGE = "relaxed_change."


def draw_scoring_sets(
    settings: Settings, trained: EarlierResult, correct_only: bool = True, *, on_part: OnPart = unheard
) -> StageResult:
    """Draw disjoint scoring sets from the validation images and log them, numbered from 1.

    An untrained network is wrong on most images: without `correct_only` they are drawn whatever it makes of them.

    Layers without scores are named, each with the reason, and layers that share the units of another.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    sets = scoring_sets_of(settings, network, dataset, correct_only=correct_only)
    for number, scoring_set in enumerate(sets, start=1):
        artifacts.log_scoring_set(result, scoring_set, number)
    artifacts.log_classes(result, dataset.classes)
    found = formulation.outline(network, sets[0].images)
    for layer, reason in found.unscored.items():
        LOG.info("sample   layer %s has no scores: %s", layer, reason)
    for layer, others in found.tied.items():
        LOG.info("sample   layer %s has one score per unit together with %s", layer, ", ".join(others))
    if found.unscored:
        result.add_json(dict(found.unscored), "unscored.json")
    if found.tied:
        result.add_json({layer: list(others) for layer, others in found.tied.items()}, "groups.json")
    for layer, reason in training.unfollowed(network, sets[0].images[:1], found.units).items():
        LOG.warning("sample   layer %s gets scores, but prune does not take it: %s", layer, reason)
    LOG.info("sample   scoring sets: %d, each of %d images, %s order", len(sets), len(sets[0]), settings.order)
    return result


def average_scores(settings: Settings, solved: Sequence[EarlierResult], *, on_part: OnPart = unheard) -> StageResult:
    """Log scores and importance of all programs together, as arrays, table and histogram; what integer rounds did."""
    result = StageResult(on_part)
    found = aggregate_programs(solved)
    scores = found.scores
    artifacts.log_scores(result, scores)
    artifacts.log_importance(result, found.importance)
    result.add_table(score_columns(found), SCORES)
    result.add_figure(figures.score_histogram(scores), "scores.png")
    result.add_table(certificate_columns(solved), CERTIFICATES)
    result.add_tags({STATUS_TAG: statuses(found.certificates)})
    largest = set_metrics(found.certificates)
    result.add_metrics(largest)
    if changed := change_in_words(largest):
        result.add_note(changed)
    low = {layer: int((values < settings.threshold).sum()) for layer, values in scores.items()}
    counts = ", ".join(f"{layer} {low[layer]} of {len(values)}" for layer, values in scores.items())
    LOG.info("score    units below %g: %s", settings.threshold, counts)
    return result


def certificate_columns(solved: Sequence[EarlierResult]) -> dict[str, list[object]]:
    """The certificates of programs as a table with one row per program."""
    rows = [
        (program_of_run(run) or ProgramSpec(0), artifacts.logged_solution(run).certificate.to_dict()) for run in solved
    ]
    rows.sort(key=lambda row: (row[0].place, row[0].number, row[0].label))
    return {
        "program": [str(program) for program, _ in rows],
        **{name: [certificate[name] for _, certificate in rows] for name in TOLD},
    }


def change_in_words(metrics: Mapping[str, float]) -> str:
    """What integer rounds changed, out of a score run's metrics; empty where there were none."""
    changes = {name.removeprefix(CHANGE): value for name, value in metrics.items() if name.startswith(CHANGE)}
    if not changes:
        return ""
    layer = max(changes, key=changes.__getitem__)
    return f"Relaxed and integer scores differ by at most {changes[layer]:.3g}, in layer {layer}."


def statuses(certificates: Sequence[Certificate]) -> str:
    """The statuses of all certificates, each once, in alphabetical order."""
    return ", ".join(sorted({certificate.status for certificate in certificates}))


def solve_program(
    settings: Settings,
    parent: EarlierResult,
    trained: EarlierResult,
    headed: EarlierResult | None,
    program: Mapping[str, Any],
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Solve one of the programs that a parent run has laid out; leaves solution and scores.

    `headed` is the run that left the heads of the blocks, where the program is about one.
    """
    result = StageResult(on_part)
    which = ProgramSpec(**program)
    classes, instance = artifacts.logged_classes(parent), instance_of(settings, parent, trained, headed, which)
    images, labels = instance.images, instance.labels
    digest = training.tensors_digest(images, labels)
    result.add_dataset(settings.dataset, images, labels, context=f"scoring {which}", digest=digest)
    if which.place == 0:
        result.add_picture(figures.image_picture(images.numpy(), len(classes)), "scoring set", which.number)

    def report(solved: Round) -> None:
        words = (which, solved.index, solved.bound, solved.objective, solved.gap, solved.cuts, solved.seconds)
        LOG.info("score    %s, round %d: bound %.6f, objective %.6f, gap %.1e, %d cuts (%.1f s)", *words)
        result.add_metrics(round_metrics(solved), step=solved.index)

    solution = solved(settings, instance, report)
    artifacts.log_solution(result, solution)
    artifacts.log_scores(result, without_heads(solution.scores))
    _log_certificate(result, solution, which)
    if settings.explain:
        log_explanation(result, which, instance, solution, classes)
    if settings.ranges:
        log_ranges(result, which, instance, solution)
    return result


def instance_of(
    settings: Settings, parent: EarlierResult, trained: EarlierResult, headed: EarlierResult | None, which: ProgramSpec
) -> ProgramInputs:
    """A program with its data, as a parent run has laid it out."""
    scoring_set, classes = artifacts.logged_scoring_set(parent, which.number), len(artifacts.logged_classes(parent))
    network = artifacts.logged_network_for(trained, settings, scoring_set.images, classes)
    chosen = scoring_set.labels == which.label if which.label != ALL_CLASSES else slice(None)
    labels = scoring_set.labels[chosen]
    if not which.block:
        return whole_instance(settings, network, scoring_set.images[chosen], labels)
    assert headed is not None, "a block's program needs the heads"
    blocks = blocks_of(settings, network, scoring_set.images)
    heads = artifacts.logged_heads(headed, blocks, classes)
    read = artifacts.logged_representation(parent, which.number, which.block) if which.place else scoring_set.images
    return block_instance(settings, blocks, heads, which.block, read[chosen], labels)


def certificate_tags(solution: Solution) -> dict[str, str]:
    """The tags that a program's run has of its solution; the digest is of certificate and rounds but for times."""
    certificate = solution.certificate
    told = [certificate.to_dict(), *(each.to_dict() for each in solution.rounds)]
    timeless = [{name: value for name, value in each.items() if name != "seconds"} for each in told]
    return {
        STATUS_TAG: certificate.status,
        "certificate.checked": str(certificate.checked),
        "certificate.digest": hashlib.sha256(json.dumps(timeless, sort_keys=True).encode()).hexdigest(),
        "solver": f"{certificate.solver} {certificate.solver_version}",
    }


def certificate_metrics(certificate: Certificate) -> dict[str, float]:
    """The metrics that a program's run has of its certificate."""
    told = certificate.to_dict()
    values = {f"certificate.{name}": told[name] for name in MEASURED}
    changes = {CHANGE + layer: value for layer, value in without_heads(certificate.relaxed_change or {}).items()}
    return {name: float(value) for name, value in (values | changes).items() if value is not None}


def round_metrics(solved: Round) -> dict[str, float]:
    """The metrics that a program's run has of a round, at the round's step."""
    return {"bound": solved.bound, "objective": solved.objective, "gap": solved.gap, "rows": float(solved.cuts)}


def set_metrics(certificates: Sequence[Certificate]) -> dict[str, float]:
    """The metrics that a score run has of its programs' certificates."""
    found = {"programs": float(len(certificates)), "largest_gap": max(float(each.gap) for each in certificates)}
    for certificate in certificates:
        for layer, change in without_heads(certificate.relaxed_change or {}).items():
            found[CHANGE + layer] = max(found.get(CHANGE + layer, 0.0), change)
    return found


def score_columns(found: AggregatedScores) -> dict[str, list[object]]:
    """The table of a score run: a row per unit."""
    others = {"importance": found.importance}
    if found.reduced_costs:
        others["reduced_cost"] = found.reduced_costs
    return figures.unit_columns(found.scores, others=others)


def _log_certificate(result: StageResult, solution: Solution, which: ProgramSpec) -> None:
    certificate = solution.certificate
    result.add_tags(certificate_tags(solution))
    metrics = certificate_metrics(certificate)
    result.add_metrics(metrics)
    changes = {name: value for name, value in metrics.items() if name.startswith(CHANGE)}
    level = logging.INFO if certificate.status == "optimal" else logging.WARNING
    LOG.log(
        level,
        "score    %s: %s, objective %.6f, gap %.1e, %d rounds (%.1f s)",
        *(which, certificate.status, certificate.objective, certificate.gap, certificate.rounds, certificate.seconds),
    )
    for note in (*certificate.notes, *filter(None, [change_in_words(changes)])):
        LOG.log(level, "score    %s: %s", which, note)
