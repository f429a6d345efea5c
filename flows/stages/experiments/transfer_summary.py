"""Summary of a transfer: every arm's accuracy over its seeds, and the differences between arms."""

import logging
from collections.abc import Mapping, Sequence
from statistics import mean

import training
from flows.adapters import artifacts
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings, data_name, model_name
from flows.reporting import Estimate, estimate, figures
from flows.stages.experiments.transfer_arms import HEAD_TAG

LOG = logging.getLogger(__name__)
PREFIX = "accuracy_"
REMOVED = "units_removed_share"
ON_SOURCE = {
    "source_dense": "dense",
    "ticket": "its own mask, from the initial weights (lottery ticket)",
    "source_random": "random mask of the same widths",
    "source_rewound": "its own mask, from the early checkpoint (rewound)",
}
ON_TARGET = {
    "dense": "dense",
    "transferred": "transferred mask",
    "random": "random masks of the same widths",
    "own": "own mask at the same widths",
    "initial_program": "mask found at initialisation by the program",
    "initial_snip": "mask found at initialisation by snip",
    "rewound": "transferred mask, from the early checkpoint (rewound)",
}
ARMS = ON_SOURCE | ON_TARGET
DIFFERENCES = (("transferred", "dense"), ("transferred", "random"), ("own", "transferred"))


def summarise_seed(
    settings: Settings, arms: Mapping[str, Sequence[EarlierResult]], *, on_part: OnPart = unheard
) -> StageResult:
    """Log every arm's test accuracy, the mean over its runs, on the run of a seed."""
    result = StageResult(on_part)
    accuracies = {arm: mean(each.metrics()["test_accuracy"] for each in runs) for arm, runs in arms.items()}
    masks = artifacts.logged_masks(arms["transferred"][0])
    removed = sum(training.counts(masks).values()) / sum(map(len, masks.values()))
    known = {PREFIX + arm: accuracies[arm] for arm in ARMS if arm in accuracies}
    result.add_metrics({**known, REMOVED: removed})
    words = ", ".join(f"{arm} {100 * accuracies[arm]:.2f}" for arm in ARMS if arm in accuracies)
    LOG.info("transfer seed %d, test accuracy in %%: %s", settings.seed, words)
    return result


def summarise_transfer(
    settings: Settings, seeds: Sequence[EarlierResult], weights: EarlierResult, *, on_part: OnPart = unheard
) -> StageResult:
    """Log means, standard errors and differences over the runs of the seeds, as metrics, table, figure and description.

    `weights` is the run with the weights that the target's arms began with.
    """
    result = StageResult(on_part)
    found = [each.metrics() for each in seeds]
    accuracies = {arm: [each[PREFIX + arm] for each in found] for arm in ARMS if PREFIX + arm in found[0]}
    for step in range(len(seeds)):
        result.add_metrics({PREFIX + arm: values[step] for arm, values in accuracies.items()}, step=step)
    means = {arm: estimate(values) for arm, values in accuracies.items()}
    differences = {
        f"{one}_minus_{other}": estimate([a - b for a, b in zip(accuracies[one], accuracies[other], strict=True)])
        for one, other in DIFFERENCES
    }
    for arm, known in means.items():
        of_arm = known.metrics(PREFIX + arm)
        result.add_metrics({name: of_arm[name] for name in of_arm if name.endswith(("_mean", "_stderr"))})
    removed = mean(each[REMOVED] for each in found)
    result.add_metrics({REMOVED: removed})
    for name, known in differences.items():
        result.add_metrics(known.metrics(f"difference_{name}"))
        LOG.info("transfer %s: %s points", name.replace("_", " "), known.in_points())
    result.add_table(_columns(settings, means), "arms.json")
    labels = {f"{_data(settings, arm)}: {ARMS[arm]}": known for arm, known in means.items()}
    errors = {name: known.stderr for name, known in labels.items() if known.stderr is not None}
    result.add_figure(figures.arm_figure({name: each.mean for name, each in labels.items()}, errors), "arms.png")
    head = weights.tags().get(HEAD_TAG, "")
    result.add_note(_note(settings, means, differences, removed, head))
    return result


def _data(settings: Settings, arm: str) -> str:
    return data_name(settings.dataset if arm in ON_SOURCE else settings.target)


def _columns(settings: Settings, means: Mapping[str, Estimate]) -> dict[str, list[object]]:
    return {
        "arm": list(means),
        "accuracy": [known.mean for known in means.values()],
        "stderr": [known.stderr for known in means.values()],
        "trained on": [_data(settings, arm) for arm in means],
        "what": [ARMS[arm] for arm in means],
        "seeds": [known.values for known in means.values()],
    }


def _note(
    settings: Settings, means: Mapping[str, Estimate], differences: Mapping[str, Estimate], removed: float, head: str
) -> str:
    source, target = data_name(settings.dataset), data_name(settings.target)
    origin = f"the mask of run `{settings.mask_run}`" if settings.mask_run else f"a mask found on {source}"
    seeds = f"seeds {settings.seed} to {settings.seed + settings.seeds - 1}" if settings.seeds > 1 else "one seed"
    what = (
        f"**Does a sub-network learn other data?** {model_name(settings.model)}, {origin}, trained on {target} from "
        f"the same initial weights: epochs={settings.epochs} for each arm, {seeds}. The mask removes "
        f"{100 * removed:.1f} % of the units."
    )
    rows = [f"| {_data(settings, arm)} | {ARMS[arm]} | {known.in_percent()} |" for arm, known in means.items()]
    apart = [f"| {name.replace('_', ' ')} | {known.in_points()} |" for name, known in differences.items()]
    spread = "(standard error over seeds)" if settings.seeds > 1 else "(one seed: no standard error)"
    interval = "[95 % interval, Student's t over seeds]" if settings.seeds > 1 else "(one seed: no interval)"
    tables = [
        "\n".join([f"| trained on | arm | test accuracy in % {spread} |", "|---|---|---|", *rows]),
        "\n".join([f"| difference | points {interval} |", "|---|---|", *apart]),
    ]
    remarks = [f"*random* is the mean over {settings.draws} draws of each seed."]
    if settings.rewind_epochs and not settings.mask_run:
        remarks.append(
            f"*rewound* begins with the weights after rewind_epochs={settings.rewind_epochs} on {source}, on "
            f"top of which come as many epochs as of every other arm."
        )
    if head:
        remarks.append(
            f"{source} and {target} differ in their number of classes: on {target} output "
            f"layer `{head}` is drawn anew from the seed, all other initial weights are the same."
        )
    return "\n\n".join([what, *tables, " ".join(remarks)])
