"""The run on top of a robustness flow: all kinds of scoring sets side by side."""

from collections.abc import Mapping, Sequence

import numpy as np

from flows.adapters import artifacts
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings, subject_of
from flows.reporting import Agreement, agreement_by_layer, plots, spearman
from flows.stages.experiments.robustness_sets import BALANCED, BY_CLASS, KINDS, SETS, SPREAD
from training import Scores

WORDS = {
    "units_removed": "units removed",
    "test_accuracy": "test accuracy in %",
    "validation_accuracy": "validation accuracy in %",
}


def summarise_robustness(
    settings: Settings, trained: EarlierResult, kinds: Sequence[EarlierResult], *, on_part: OnPart = unheard
) -> StageResult:
    """Log agreement and spread of every kind of scoring set, in the order of KINDS, with pictures and a description."""
    result = StageResult(on_part)
    found = dict(zip(KINDS, kinds, strict=True))
    metrics = {kind: each.metrics() for kind, each in found.items()}
    scores = {kind: artifacts.logged_set_scores(each) for kind, each in found.items()}
    agreements = {kind: agreement_by_layer(each) for kind, each in scores.items()}
    same = _same_images(scores[BALANCED], scores[BY_CLASS])
    names = [f"{name}_{part}" for name in SPREAD for part in ("mean", "stdev", "min", "max")]
    for kind, values in metrics.items():
        shown = {name: value for name, value in values.items() if name in names or name.startswith("spearman_")}
        result.add_metrics({f"{kind}.{name}": value for name, value in shown.items()})
    result.add_metrics({f"balanced_and_by_class.spearman.{layer}": value for layer, value in same.items()})
    dense = trained.metrics()["test_accuracy"]
    result.add_metrics({"accuracy_trained": dense})
    result.add_table(_columns(agreements, metrics), "agreement.json")
    result.add_figure(plots.spread_figure(_spreads(found)), "spread.png")
    result.add_figure(plots.agreement_figure(agreements[BALANCED]), "agreement.png")
    result.add_note(_note(settings, dense, agreements, metrics, same))
    return result


def _same_images(together: Scores, by_class: Scores) -> dict[str, float]:
    """By layer the mean correlation of scores of the same images, seen together and class by class."""
    pairs = {layer: np.diag(spearman(values, by_class[layer])) for layer, values in together.items()}
    return {layer: float(np.nanmean(each)) for layer, each in pairs.items() if not np.isnan(each).all()}


def _spreads(runs: Mapping[str, EarlierResult]) -> dict[str, dict[str, list[float]]]:
    rows = {kind: run.rows(SETS) for kind, run in runs.items()}
    return {
        words: {
            kind.replace("_", " "): [float(row[name]) * (1 if name == "units_removed" else 100) for row in each]
            for kind, each in rows.items()
        }
        for name, words in WORDS.items()
    }


def _columns(
    agreements: Mapping[str, Mapping[str, Agreement]], metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, list[object]]:
    rows = [(kind, layer, each) for kind, layers in agreements.items() for layer, each in layers.items()]
    return {
        "kind and layer": [f"{kind} {layer}" for kind, layer, _ in rows],
        "spearman_mean": [each.mean for _, _, each in rows],
        "spearman_min": [each.smallest for _, _, each in rows],
        "importance_mean": [metrics[kind].get(f"spearman_importance_mean.{layer}") for kind, layer, _ in rows],
        "constant_sets": [each.constant for _, _, each in rows],
        "pairs": [each.pairs for _, _, each in rows],
    }


def _note(
    settings: Settings,
    dense: float,
    agreements: Mapping[str, Mapping[str, Agreement]],
    metrics: Mapping[str, Mapping[str, float]],
    same: Mapping[str, float],
) -> str:
    layers = list(agreements[BALANCED])
    heads = ["scoring sets", *layers, "units removed", "test accuracy"]
    rows = [heads, ["---"] * len(heads)]
    for kind, values in metrics.items():
        cells = [_cell(agreements[kind][layer]) for layer in layers]
        removed = f"{values['units_removed_mean']:.1f} ± {values['units_removed_stdev']:.1f}"
        accuracy = f"{100 * values['test_accuracy_mean']:.2f} ± {100 * values['test_accuracy_stdev']:.2f} %"
        rows.append([kind.replace("_", " "), *cells, removed, accuracy])
    what = (
        f"**{subject_of(settings)}**, {100 * dense:.2f} % on the test images: {settings.scoring_sets} "
        f"scoring sets of each kind, each as large as {settings.images_per_class} images per class, each scored and "
        f"pruned by alone. Columns of layers: Spearman's correlation of the scores, mean of all pairs of sets (least)."
    )
    constant = [
        f"{layer} ({kind.replace('_', ' ')}: {each.constant} of {settings.scoring_sets} sets)"
        for kind, of_kind in agreements.items()
        for layer, each in of_kind.items()
        if each.constant
    ]
    parts = [what, "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    if same:
        listed = ", ".join(f"{layer} {value:.2f}" for layer, value in same.items())
        parts.append(f"The same images seen together and class by class: mean correlation {listed}.")
    if constant:
        parts.append(f"Constant, and not counted: {', '.join(constant)}.")
    return "\n\n".join(parts)


def _cell(each: Agreement) -> str:
    return "constant" if each.mean is None else f"{each.mean:.2f} ({each.smallest:.2f})"
