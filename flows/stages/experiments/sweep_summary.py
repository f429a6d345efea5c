"""The run on top of a sweep: all points side by side."""

from collections.abc import Mapping, Sequence

from flows.adapters import artifacts, choice_in_words
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings, point_title, subject_of, value_of
from flows.reporting import plots
from flows.stages.pruning import PERCENTAGES, load_curve

POINTS = "points.json"
OUTCOME = ("units_removed", "units_removed_share", "test_accuracy", "final_validation_accuracy")
SHOWN = (30, 50, 70, 90)  # percentages of the description


def summarise_sweep(
    settings: Settings, trained: EarlierResult, points: Sequence[EarlierResult], *, on_part: OnPart = unheard
) -> StageResult:
    """Log the curves of all points in one picture, their table, their outcomes as metrics by step, and a description.

    The step is the point's place, from 0.
    """
    result = StageResult(on_part)
    asked = [artifacts.logged_settings(point) for point in points]
    titles = [point_title(point) for point in asked]
    metrics = [point.metrics() for point in points]
    tests = [load_curve(point)["test_accuracy"] for point in points]
    for step, found in enumerate(metrics):
        result.add_metrics({f"point.{name}": found[name] for name in OUTCOME}, step)
    dense = trained.metrics()["test_accuracy"]
    result.add_metrics({"accuracy_trained": dense})
    chosen = [(found["units_removed_share"], found["test_accuracy"]) for found in metrics]
    result.add_figure(plots.curve_figure(titles, PERCENTAGES, tests, chosen), "curves.png")
    values = [str(value_of(point)) for point in asked]
    result.add_table(
        {
            settings.over: values,
            **{name: [found[name] for found in metrics] for name in OUTCOME},
            **{f"test_accuracy_at_{at}": [test[place] for test in tests] for place, at in enumerate(PERCENTAGES)},
            "run_id": [point.run_id for point in points],
        },
        POINTS,
    )
    result.add_note(_note(settings, dense, values, metrics, tests))
    return result


def _note(
    settings: Settings,
    dense: float,
    values: Sequence[str],
    metrics: Sequence[Mapping[str, float]],
    tests: Sequence[Sequence[float]],
) -> str:
    heads = [settings.over, "units removed", "test accuracy", *(f"at {share} %" for share in SHOWN)]
    rows = [heads, ["---"] * len(heads)]
    for value, found, test in zip(values, metrics, tests, strict=True):
        accuracies = [found["test_accuracy"], *(test[PERCENTAGES.index(share)] for share in SHOWN)]
        removed = f"{found['units_removed']:.0f} ({100 * found['units_removed_share']:.1f} %)"
        rows.append([value, removed, *(f"{100 * accuracy:.2f} %" for accuracy in accuracies)])
    own_threshold = settings.over == "threshold" and settings.selection == "threshold"
    choice = "units with a score below the point's threshold removed" if own_threshold else choice_in_words(settings)
    of = "all units together" if settings.selection == "quantile" else "each layer's units"
    what = (
        f"**{subject_of(settings)}**, {100 * dense:.2f} % on the test images, scored and pruned with "
        f"{len(values)} values of *{settings.over}*, without retraining: {choice}."
    )
    where = (
        f"The last {len(SHOWN)} columns: test accuracy with this part of {of} removed in the order of the scores. One "
        f"nested run per value below; their metrics `curve.*` by step (percent removed) are the curves of `curves.png`."
    )
    return "\n\n".join([what, "\n".join(f"| {' | '.join(row)} |" for row in rows), where])
