"""Scoring: draw the sets, solve the program of each, average."""

import logging
from collections.abc import Mapping, Sequence

import formulation
from flows import figures, handover, tracking
from flows.settings import Settings
from flows.solving import solved
from flows.stages.explain import log_explanation, log_ranges
from flows.tracking import Run
from flows.translation import dataset_of, scoring_sets_of
from formulation import Certificate, Round, Solution
from training import Scores

LOG = logging.getLogger(__name__)
STATUS_TAG = "certificate.status"
SET_TAG = "scoring_set"
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
    unscored = formulation.lower(network, sets[0].images).unscored
    for layer, reason in unscored.items():
        LOG.info("sample   layer %s has no scores: %s", layer, reason)
    if unscored:
        tracking.log_json(run, dict(unscored), "unscored.json")
    LOG.info("sample   %d scoring sets of %d images, %s order", len(sets), len(sets[0]), settings.order)


def average_scores(settings: Settings, run: Run, scored_sets: Sequence[Run]) -> None:
    """Log scores and importance, means over all sets, as arrays, table and histogram; also what integer rounds did."""
    scores = formulation.mean_scores([handover.load_scores(each) for each in scored_sets])
    handover.save_scores(run, scores)
    solutions = [handover.load_solution(each) for each in scored_sets]
    importance = mean_importance(solutions)
    handover.save_importance(run, importance)
    others = {"importance": importance}
    if costs := [solution.reduced_costs for solution in solutions if solution.reduced_costs]:
        others["reduced_cost"] = formulation.mean_scores(costs)
    tracking.log_table(run, figures.unit_columns(scores, others=others), "scores.json")
    tracking.log_figure(run, figures.score_histogram(scores), "scores.png")
    certificates = [solution.certificate for solution in solutions]
    tracking.log_tags(run, {STATUS_TAG: statuses(certificates)})
    changes = [certificate.relaxed_change for certificate in certificates if certificate.relaxed_change]
    if changes:
        largest = {CHANGE + layer: max(change[layer] for change in changes) for layer in scores}
        tracking.log_metrics(run, largest)
        tracking.log_note(run, change_in_words(largest))
    low = {layer: int((values < settings.threshold).sum()) for layer, values in scores.items()}
    counts = ", ".join(f"{layer} {low[layer]} of {len(values)}" for layer, values in scores.items())
    LOG.info("score    units below %g: %s", settings.threshold, counts)


def mean_importance(solutions: Sequence[Solution]) -> Scores:
    """The mean over scoring sets of what ranks the units: scores with the price that tells ties apart."""
    return formulation.mean_scores([formulation.importance(solution) for solution in solutions])


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


def score_set(settings: Settings, run: Run, parent: Run, trained: Run, number: int) -> None:
    """Solve the program of one of the scoring sets that a parent run has drawn; leaves solution and scores."""
    scoring_set = handover.load_scoring_set(parent, number)
    dataset = dataset_of(settings)
    # Building a network calls it, and no module may be called while another set's thread traces its own.
    with formulation.TRACING:
        network = handover.load_network(trained, settings, dataset)
    images, labels = scoring_set.images, scoring_set.labels
    tracking.log_dataset(
        run, settings.dataset, images, labels, context=f"scoring set {number}", digest=scoring_set.digest()
    )
    tracking.log_picture(run, figures.image_picture(images.numpy(), len(dataset.classes)), "scoring set", step=number)

    def report(solved: Round) -> None:
        words = (number, solved.index, solved.bound, solved.objective, solved.gap, solved.rows, solved.seconds)
        LOG.info("score    set %d, round %d: bound %.6f, objective %.6f, gap %.1e, %d rows (%.1f s)", *words)
        rounded = {"bound": solved.bound, "objective": solved.objective, "gap": solved.gap, "rows": solved.rows}
        tracking.log_metrics(run, rounded, step=solved.index)

    solution = solved(settings, network, images, labels, report)
    handover.save_solution(run, solution)
    handover.save_scores(run, solution.scores)
    _log_certificate(run, solution.certificate, number)
    if settings.explain:
        log_explanation(run, number, network, scoring_set, solution, dataset.classes)
    if settings.ranges:
        log_ranges(run, number, network, scoring_set, solution)


def _log_certificate(run: Run, certificate: Certificate, number: int) -> None:
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
    changes = {CHANGE + layer: value for layer, value in (certificate.relaxed_change or {}).items()}
    tracking.log_metrics(run, changes)
    level = logging.INFO if certificate.status == "optimal" else logging.WARNING
    LOG.log(
        level,
        "score    set %d: %s, objective %.6f, gap %.1e, %d rounds (%.1f s)",
        *(number, certificate.status, certificate.objective, certificate.gap, certificate.rounds, certificate.seconds),
    )
    for note in (*certificate.notes, *filter(None, [change_in_words(changes)])):
        LOG.log(level, "score    set %d: %s", number, note)
