"""Scoring: draw the sets, solve each program, put together what they say."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import formulation
import training
from flows import figures, handover, tracking
from flows.gathering import gathered, program_of_run
from flows.programs import ALL_CLASSES, Instance, Program, block_instance, blocks_of, whole_instance, without_heads
from flows.settings import Settings
from flows.solving import solved
from flows.stages.explain import log_explanation, log_ranges
from flows.tracking import Run
from flows.translation import dataset_of, scoring_sets_of
from formulation import Certificate, Round

LOG = logging.getLogger(__name__)
STATUS_TAG = "certificate.status"
CERTIFICATES = "certificates.json"
TOLD = (
    *("status", "checked", "objective", "bound", "proved_bound", "gap", "rounds", "seconds", "images", "columns"),
    *("rows", "undecided", "solver", "solver_version"),
)
CHANGE = "relaxed_change."


def draw_scoring_sets(settings: Settings, run: Run, trained: Run, correct_only: bool = True) -> None:
    """Draw disjoint scoring sets from the validation images and log them, numbered from 1.

    An untrained network is wrong on most images: without `correct_only` they are drawn whatever it makes of them.

    Layers without scores are named, each with the reason.
    """
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    sets = scoring_sets_of(settings, network, dataset, correct_only=correct_only)
    for number, scoring_set in enumerate(sets, start=1):
        handover.save_scoring_set(run, scoring_set, number)
    handover.save_classes(run, dataset.classes)
    unscored = formulation.outline(network, sets[0].images).unscored
    for layer, reason in unscored.items():
        LOG.info("sample   layer %s has no scores: %s", layer, reason)
    if unscored:
        tracking.log_json(run, dict(unscored), "unscored.json")
    LOG.info("sample   %d scoring sets of %d images, %s order", len(sets), len(sets[0]), settings.order)


def average_scores(settings: Settings, run: Run, solved: Sequence[Run]) -> None:
    """Log scores and importance of all programs together, as arrays, table and histogram; what integer rounds did."""
    found = gathered(solved)
    scores = found.scores
    handover.save_scores(run, scores)
    handover.save_importance(run, found.importance)
    others = {"importance": found.importance}
    if found.reduced_costs:
        others["reduced_cost"] = found.reduced_costs
    tracking.log_table(run, figures.unit_columns(scores, others=others), "scores.json")
    tracking.log_figure(run, figures.score_histogram(scores), "scores.png")
    tracking.log_table(run, certificate_columns(solved), CERTIFICATES)
    tracking.log_tags(run, {STATUS_TAG: statuses(found.certificates)})
    tracking.log_metrics(run, {"programs": len(solved), "largest_gap": max(each.gap for each in found.certificates)})
    largest: dict[str, float] = {}
    for certificate in found.certificates:
        for layer, change in without_heads(certificate.relaxed_change or {}).items():
            largest[CHANGE + layer] = max(largest.get(CHANGE + layer, 0.0), change)
    if largest:
        tracking.log_metrics(run, largest)
        tracking.log_note(run, change_in_words(largest))
    low = {layer: int((values < settings.threshold).sum()) for layer, values in scores.items()}
    counts = ", ".join(f"{layer} {low[layer]} of {len(values)}" for layer, values in scores.items())
    LOG.info("score    units below %g: %s", settings.threshold, counts)


def certificate_columns(solved: Sequence[Run]) -> dict[str, list[object]]:
    """The certificates of programs as a table with one row per program."""
    rows = [(program_of_run(run) or Program(0), handover.load_solution(run).certificate) for run in solved]
    rows.sort(key=lambda row: (row[0].place, row[0].number, row[0].label))
    return {
        "program": [str(program) for program, _ in rows],
        **{name: [getattr(certificate, name) for _, certificate in rows] for name in TOLD},
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


def score_set(
    settings: Settings,
    run: Run,
    parent: Run,
    trained: Run,
    headed: Run | None,
    program: Mapping[str, Any],
) -> None:
    """Solve one of the programs that a parent run has laid out; leaves solution and scores.

    `headed` is the run that left the heads of the blocks, where the program is about one.
    """
    which = Program(**program)
    classes, instance = handover.load_classes(parent), instance_of(settings, parent, trained, headed, which)
    images, labels = instance.images, instance.labels
    digest = training.tensors_digest(images, labels)
    tracking.log_dataset(run, settings.dataset, images, labels, context=f"scoring {which}", digest=digest)
    if which.place == 0:
        tracking.log_picture(run, figures.image_picture(images.numpy(), len(classes)), "scoring set", which.number)

    def report(solved: Round) -> None:
        words = (which, solved.index, solved.bound, solved.objective, solved.gap, solved.rows, solved.seconds)
        LOG.info("score    %s, round %d: bound %.6f, objective %.6f, gap %.1e, %d rows (%.1f s)", *words)
        rounded = {"bound": solved.bound, "objective": solved.objective, "gap": solved.gap, "rows": solved.rows}
        tracking.log_metrics(run, rounded, step=solved.index)

    solution = solved(settings, instance, report)
    handover.save_solution(run, solution)
    handover.save_scores(run, without_heads(solution.scores))
    _log_certificate(run, solution.certificate, which)
    if settings.explain:
        log_explanation(run, which, instance, solution, classes)
    if settings.ranges:
        log_ranges(run, which, instance, solution)


def instance_of(settings: Settings, parent: Run, trained: Run, headed: Run | None, which: Program) -> Instance:
    """A program with its data, as a parent run has laid it out."""
    scoring_set, classes = handover.load_scoring_set(parent, which.number), len(handover.load_classes(parent))
    # Building a network calls it, and no module may be called while another set's thread traces its own.
    with formulation.TRACING:
        network = handover.load_network_for(trained, settings, scoring_set.images, classes)
    chosen = scoring_set.labels == which.label if which.label != ALL_CLASSES else slice(None)
    labels = scoring_set.labels[chosen]
    if not which.block:
        return whole_instance(settings, network, scoring_set.images[chosen], labels)
    assert headed is not None, "a block's program needs the heads"
    blocks = blocks_of(settings, network, scoring_set.images)
    heads = handover.load_heads(headed, blocks, classes)
    read = handover.load_representation(parent, which.number, which.block) if which.place else scoring_set.images
    return block_instance(settings, blocks, heads, which.block, read[chosen], labels)


def _log_certificate(run: Run, certificate: Certificate, which: Program) -> None:
    tracking.log_tags(
        run,
        {
            STATUS_TAG: certificate.status,
            "certificate.checked": str(certificate.checked),
            "solver": f"{certificate.solver} {certificate.solver_version}",
        },
    )
    names = ("cross_entropy", "sparsity", "columns", "rows", "undecided")
    values = {name: getattr(certificate, name) for name in names}
    values |= {name: getattr(certificate, name) for name in ("proved_bound", "relaxation")}
    tracking.log_metrics(run, {f"certificate.{name}": value for name, value in values.items() if value is not None})
    changes = {CHANGE + layer: value for layer, value in without_heads(certificate.relaxed_change or {}).items()}
    tracking.log_metrics(run, changes)
    level = logging.INFO if certificate.status == "optimal" else logging.WARNING
    LOG.log(
        level,
        "score    %s: %s, objective %.6f, gap %.1e, %d rounds (%.1f s)",
        *(which, certificate.status, certificate.objective, certificate.gap, certificate.rounds, certificate.seconds),
    )
    for note in (*certificate.notes, *filter(None, [change_in_words(changes)])):
        LOG.log(level, "score    %s: %s", which, note)
