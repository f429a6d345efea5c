"""A deep network through the whole flow, and its mask on other data, for `benchmarks.decoupled`.

Both run `python -m flows` as a person does and read the figures back from the tracking store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.flow_commands import head_of, options_of, row_of, run_of_command
from flows import tracking
from flows.config.entry_points import ENTRY_POINTS

EXPERIMENT = "benchmark: decoupled"
# The full command, meant for a GPU; on a CPU a narrower network and fewer epochs are named by --set.
MAIN: Mapping[str, str] = {
    "model": "vgg16", "epochs": "160", "optimiser": "sgd", "learning_rate": "0.05", "weight_decay": "0.0005",
    "batch_size": "128", "rate_schedule": "cosine", "augment": "flip_crop", "retrain_epochs": "40", "blocks": "auto",
    "head_epochs": "3", "gate": "linear", "layer_weight": "total", "gap": "0.001", "images_per_class": "20",
    "scoring_sets": "1", "schedule": "iterative", "steps": "7", "selection": "share", "share": "0.35",
    "recalibrate": "true", "compare": "random,l1_norm", "export": "none",
}  # fmt: skip
# One seed, and few images and epochs: every one of the seven networks of a target is trained from its initial weights.
TRANSFER: Mapping[str, str] = {
    "image_size": "32", "channels": "3", "seeds": "1", "draws": "2", "limit": "10000", "epochs": "4",
}  # fmt: skip
TARGETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
MAIN_COLUMNS = {
    "dense": "{accuracy_trained:.2f}",
    "pruned": "{accuracy_pruned:.2f}",
    "random, mean of 5 (standard deviation)": "{accuracy_random:.2f} ({accuracy_random_stdev:.2f})",
    "`l1_norm`": "{accuracy_l1_norm:.2f}",
    "pruned, retrained": "{accuracy_retrained:.2f}",
    "compacted": "{accuracy_compacted:.2f}",
    "units removed": "{units_removed_share:.1f} %",
    "parameters removed": "{parameters_removed_share:.1f} %",
    "multiply-adds removed": "{multiply_adds_removed_share:.1f} %",
    "seconds: train / heads and score / prune / retrain": (
        "{seconds_train:.0f} / {seconds_scored:.0f} / {seconds_prune:.0f} / {seconds_retrain:.0f}"
    ),
}
TRANSFERRED = ("dense", "transferred", "random", "own", "initial_program", "initial_snip")
TRANSFER_COLUMNS = {
    "units removed": "{units_removed_share:.1f} %",
    **{arm.replace("_", ": "): f"{{accuracy_{arm}_mean:.2f}}" for arm in TRANSFERRED},
}


def deep_network(dataset: str, data_root: Path, more: Mapping[str, str]) -> Iterator[str]:
    """Both tables; `more` are further parameters of the flows."""
    yield from head_of("network, CIFAR-10", MAIN_COLUMNS)
    line, run_id = _main_row(dataset, data_root, more)
    yield line
    if run_id:
        yield ""
        yield from head_of("network, mask from -> trained on", TRANSFER_COLUMNS)
        yield from _transfer_rows(dataset, run_id, data_root, more)


def _main_row(dataset: str, data_root: Path, more: Mapping[str, str]) -> tuple[str, str]:
    """A deep network trained, scored by block, pruned and retrained: the table's line, and the id of its run."""
    words = {**MAIN, "dataset": dataset, "data_root": str(data_root), **more}
    run = _run("main", words)
    if run is None:
        return f"| {words['model']} | failed |", ""
    metrics = run.metrics()
    scored = metrics["seconds_score"] + metrics.get("seconds_heads", 0.0)
    return row_of(words["model"], MAIN_COLUMNS, {**metrics, "seconds_scored": scored}), run.run_id


def _transfer_rows(dataset: str, mask_run: str, data_root: Path, more: Mapping[str, str]) -> Iterator[str]:
    """The mask of a run, on other data beside its controls: a line per data set."""
    own = ENTRY_POINTS["transfer"].own
    words = {name: value for name, value in {**MAIN, **more}.items() if name in own} | dict(TRANSFER)
    for target, name in TARGETS.items():
        # The data set that the mask was found on is seen by masks at initialisation alone.
        places = {"dataset": dataset, "data_root": str(data_root), "mask_run": mask_run, "target": target}
        run = _run("transfer", words | places)
        title = f"{words['model']}, CIFAR-10 -> {name}"
        yield row_of(title, TRANSFER_COLUMNS, run.metrics()) if run else f"| {title} | failed |"


def _run(flow: str, words: Mapping[str, str]) -> tracking.Run | None:
    """The run of a flow with these parameters; None, after a word on stderr, where it fails."""
    store = tracking.open_store(tracking.store_uri(""), EXPERIMENT)
    run_id = run_of_command(flow, options_of({**words, "experiment": EXPERIMENT}))
    return tracking.find_run(store.uri, run_id) if run_id else None
