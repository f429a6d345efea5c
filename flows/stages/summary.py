"""The run on top: what the whole flow came to, in figures and in a few words."""

import formulation
from flows import figures, handover, tracking
from flows.programs import scoring_in_words
from flows.selection import choice_in_words
from flows.settings import Settings
from flows.stages.compact import compaction_in_words
from flows.stages.page import REPORT, log_report
from flows.stages.pictures import log_mask_pictures
from flows.stages.score import change_in_words
from flows.stages.steps import certificates_in_words, masks_by_step
from flows.tracking import Run
from flows.translation import dataset_of, rules_of
from flows.words import subject_of

NAMES = {"random": "pruned at random (mean)", "critical": "most critical units pruned"}


def summarise(settings: Settings, parent: Run, stages: dict[str, Run]) -> None:
    """Log the figures of all stages on the run above them, with a table as its description."""
    metrics = {stage: tracking.logged_metrics(run) for stage, run in stages.items()}
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
        shares |= {name: value for name, value in metrics["compact"].items() if "_ratio" in name}
        spread["accuracy_compacted"] = metrics["compact"]["test_accuracy"]
    tracking.log_metrics(parent, {**dict(zip(names, accuracies.values(), strict=True)), **spread, **shares, **seconds})
    tracking.log_figure(parent, figures.accuracy_figure(accuracies), "accuracy.png")
    scores, masks = handover.load_scores(stages["score"]), handover.load_masks(stages["prune"])
    tracking.log_table(parent, figures.unit_columns(scores, masks), "scores.json")
    dataset = dataset_of(settings)
    network = handover.load_network(stages["train"], settings, dataset)
    # Those of every step here too: the UI's list of runs hides nested ones, and its slider has nowhere to go without.
    steps = settings.schedule == "iterative"
    widths = {layer: len(mask) for layer, mask in masks.items()}
    for step, each in (masks_by_step(stages["prune"], widths) if steps else {0: masks}).items():
        log_mask_pictures(parent, network, each, step)
    unscored = formulation.outline(network, dataset.train.images[:1]).unscored
    log_report(settings, parent, stages, accuracies, network, scores, masks, unscored)
    images, labels = dataset.train.images, dataset.train.labels
    tracking.log_dataset(parent, settings.dataset, images, labels, context="train", digest=dataset.train.digest())
    proofs = certificates_in_words(tracking.logged_tags(stages["prune"]), pruned)
    tracking.log_note(parent, _note(settings, metrics, accuracies, proofs))


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
        f"orange: removed), the final network is a model of the *retrain* run."
    )
    table = ["| network | test accuracy |", "|---|---|", *rows]
    smaller = compaction_in_words(metrics.get("compact", {}))
    parts = [what, "\n".join(table), change_in_words(metrics["score"]), proofs, removed, smaller, where]
    return "\n\n".join(part for part in parts if part)
