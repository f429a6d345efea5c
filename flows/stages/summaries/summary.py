"""The run on top: what the whole flow came to, in figures and in a few words."""

import formulation
from flows.adapters import artifacts, choice_in_words, dataset_of, rules_of, scoring_in_words
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings, subject_of
from flows.reporting import figures
from flows.stages.pruning import (
    certificates_in_words,
    compaction_in_words,
    log_mask_pictures,
    masks_by_step,
    refit_in_words,
)
from flows.stages.scoring import change_in_words
from flows.stages.summaries.html_report import REPORT, log_report

SIZES = ("parameters", "multiply_adds")
NAMES = {"random": "pruned at random (mean)", "critical": "most critical units pruned"}


def summarise(
    settings: Settings, run: EarlierResult, stages: dict[str, EarlierResult], *, on_part: OnPart = unheard
) -> StageResult:
    """Log the figures of all stages on the run above them, with a table as its description."""
    result = StageResult(on_part)
    metrics = {stage: each.metrics() for stage, each in stages.items()}
    pruned = metrics["prune"]
    rules = {
        rule: pruned["random_accuracy_mean" if rule == "random" else f"{rule}_accuracy"] for rule in rules_of(settings)
    }
    accuracies = {
        "trained": metrics["train"]["test_accuracy"],
        "pruned": pruned["test_accuracy"],
        **{NAMES.get(rule, f"pruned by {rule}"): accuracy for rule, accuracy in rules.items()},
        "pruned and retrained": metrics["retrain"]["test_accuracy"],
    }
    names = [f"accuracy_{name}" for name in ("trained", "pruned", *rules, "retrained")]
    # Not those of single steps, whose names begin with `step.`.
    shares = {name: value for name, value in pruned.items() if name.endswith("_removed_share") and "." not in name}
    seconds = {f"seconds_{stage}": values["seconds"] for stage, values in metrics.items()}
    spread = {f"accuracy_{rule}_stdev": pruned[f"{rule}_accuracy_stdev"] for rule in rules if rule == "random"}
    if "compact" in metrics:
        shares |= {name: value for name, value in metrics["compact"].items() if "_ratio" in name or name in SIZES}
        spread["accuracy_compacted"] = metrics["compact"]["test_accuracy"]
    result.add_metrics({**dict(zip(names, accuracies.values(), strict=True)), **spread, **shares, **seconds})
    result.add_figure(figures.accuracy_figure(accuracies), "accuracy.png")
    scores, masks = artifacts.logged_scores(stages["score"]), artifacts.logged_masks(stages["prune"])
    result.add_table(figures.unit_columns(scores, masks), "scores.json")
    dataset = dataset_of(settings)
    network = artifacts.logged_network(stages["train"], settings, dataset)
    # Those of every step here too: the UI's list of runs hides nested ones, and its slider has nowhere to go without.
    steps = settings.schedule == "iterative"
    widths = {layer: len(mask) for layer, mask in masks.items()}
    for step, each in (masks_by_step(stages["prune"], widths) if steps else {0: masks}).items():
        log_mask_pictures(result, network, each, step)
    outline = formulation.outline(network, dataset.train.images[:1])
    log_report(settings, result, run, stages, accuracies, network, scores, masks, outline, dataset.classes)
    images, labels = dataset.train.images, dataset.train.labels
    result.add_dataset(settings.dataset, images, labels, context="train", digest=dataset.train.digest())
    proofs = certificates_in_words(stages["prune"].tags(), pruned)
    result.add_note(_note(settings, metrics, accuracies, proofs))
    return result


def _note(settings: Settings, metrics: dict[str, dict[str, float]], accuracies: dict[str, float], proofs: str) -> str:
    pruned = metrics["prune"]
    rows = [f"| {name} | {100 * value:.2f} % |" for name, value in accuracies.items()]
    took = ", ".join(f"{stage} {values['seconds']:.1f} s" for stage, values in metrics.items())
    what = f"**{subject_of(settings)}**: {scoring_in_words(settings)}; {choice_in_words(settings)}."
    removed = (
        f"Removed: {pruned['units_removed']:.0f} units ({100 * pruned['units_removed_share']:.1f} %), "
        f"{100 * pruned['parameters_removed_share']:.1f} % of the parameters, "
        f"{100 * pruned['multiply_adds_removed_share']:.1f} % of the multiply-adds."
    )
    where = (
        f"Seconds: {took}. All of it with pictures: *{REPORT}* among the artifacts. "
        f"One nested run per stage below; masks are pictures of the *prune* run (blue: kept, "
        f"orange: removed). The *Model* of this run is the compacted network."
    )
    table = ["| network | test accuracy |", "|---|---|", *rows]
    smaller = compaction_in_words(metrics.get("compact", {}))
    parts = [
        what,
        "\n".join(table),
        change_in_words(metrics["score"]),
        proofs,
        removed,
        refit_in_words(pruned),
        smaller,
        where,
    ]
    return "\n\n".join(part for part in parts if part)
