"""Which settings each entry point takes."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flows.errors import SettingsError

DATA = ("dataset", "data_root", "image_size", "channels", "limit")
NETWORK = ("model", "checkpoint", "new_head")
LEARNING = ("learning_rate", "batch_size", "optimiser", "weight_decay", "rate_schedule", "augment", "precision")
FIT = ("epochs", *LEARNING)
SAMPLE = ("images_per_class", "scoring_sets", "sets_seed", "order")
SOLVE = (
    *("loss_weight", "radius", "gate", "relax", "integer_scores", "layer_weight", "allow_degenerate"),
    *("solver", "solver_options", "time_limit", "gap", "cuts", "break_ties"),
)
BLOCKS = ("blocks", "head_epochs", "head_units")
RUNNER = ("workers", "task_runner", "dask_address")
PROGRAM = (*SOLVE, *BLOCKS, "by_class", *RUNNER, "explain", "ranges")
LIMITS = ("share", "budget", "budget_on", "floor", "round_to", "leave_alone")
SELECT_BY_SCORE = ("selection", "threshold", *LIMITS)
SELECT = ("rule", *SELECT_BY_SCORE)
REMOVAL = ("steps", "exchange", "recalibrate")
PRUNE = (*SELECT, "schedule", *REMOVAL, "compare", "draws")
GRADUAL = ("rule", "selection", *LIMITS, "when", "every", *REMOVAL)
RETRAIN = ("retrain_epochs",)
COMPACT = ("export",)
MACHINE = ("device", "threads", "cache", "tracking_uri", "experiment")

IDENTITY = ("dataset", "image_size", "channels", "limit", "model", "checkpoint", "seed")


@dataclass(frozen=True)
class EntryPoint:
    """One entry point: the settings it takes, those it inherits from the run it continues, those it may override.

    `after` is the stage whose run it continues, `or_after` those that serve where there is none of it; `fixed`
    settings say which network and which data that run was about: naming another value is refused. `defaults` are its
    own where those of the settings make no sense for it.
    """

    name: str
    summary: str
    own: tuple[str, ...]
    free: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    after: str = ""
    or_after: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def continues(self) -> tuple[str, ...]:
        """The stages that it may continue, the preferred one first."""
        return (self.after, *self.or_after) if self.after else ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every setting that may be named on the command line."""
        return self.own + self.free + self.fixed


ENTRY_POINTS = {
    point.name: point
    for point in (
        EntryPoint(
            "main",
            "train, score, prune, retrain and compact a network",
            (
                *(*DATA, *NETWORK, *FIT, "fit_by", *SAMPLE, *PROGRAM),
                *(*PRUNE, *RETRAIN, *COMPACT, "seed", *MACHINE),
            ),
        ),
        EntryPoint("train", "train a network", (*DATA, *NETWORK, *FIT, "fit_by", "blocks", "seed", *MACHINE)),
        EntryPoint(
            "score",
            "score the units of the network that an earlier run trained",
            ("run_id", *SAMPLE, *PROGRAM, *MACHINE),
            free=("data_root", "batch_size"),
            fixed=IDENTITY,
            after="train",
        ),
        EntryPoint(
            "prune",
            "remove units that an earlier run scored, at once or in steps, and compare with other rules",
            ("run_id", *PRUNE, *MACHINE),
            free=("data_root", "batch_size"),
            fixed=IDENTITY,
            after="score",
        ),
        EntryPoint(
            "retrain",
            "train the network that an earlier run pruned",
            ("run_id", *RETRAIN, *MACHINE),
            free=("data_root", *LEARNING),
            fixed=IDENTITY,
            after="prune",
        ),
        EntryPoint(
            "compact",
            "make the network that an earlier run pruned or retrained smaller, and measure what that saves",
            ("run_id", *COMPACT, *MACHINE),
            free=("data_root", "batch_size"),
            fixed=IDENTITY,
            after="retrain",
            or_after=("arm", "prune", "gradual"),
        ),
        EntryPoint(
            "gradual",
            "train a network and remove units in steps, between epochs or before the first",
            (*DATA, *NETWORK, *FIT, *SAMPLE, *SOLVE, *GRADUAL, "seed", *MACHINE),
            defaults={"selection": "share"},
        ),
        EntryPoint(
            "check",
            "compute every stored solution of an earlier run again, without the solver",
            ("run_id", *MACHINE),
            fixed=IDENTITY,
            after="score",
        ),
        EntryPoint(
            "transfer",
            "train sub-networks found on one data set on another, beside random ones and its own",
            (
                *("target", "rewind_epochs", "mask_run", "seeds"),
                *(*DATA, *NETWORK, *FIT, *SAMPLE, *PROGRAM, *SELECT, "draws", "seed", *MACHINE),
            ),
            defaults={"dataset": "mnist"},
        ),
        EntryPoint(
            "reproduce",
            "the published table on these data, and the same table with this project's own settings",
            (
                *("models", "datasets", "thresholds", "seeds", "data_root", "limit"),
                *(*FIT, "images_per_class", "draws", *RUNNER, "seed", *MACHINE),
            ),
            defaults={"epochs": "5", "images_per_class": "100"},
        ),
        EntryPoint(
            "sweep",
            "score and prune one network with many values of one setting",
            ("over", "values", *DATA, *NETWORK, *FIT, *SAMPLE, *PROGRAM, *SELECT_BY_SCORE, "seed", *MACHINE),
        ),
        EntryPoint(
            "robustness",
            "how far scores depend on the images that they are computed from",
            (*DATA, *NETWORK, *FIT, *SAMPLE, *SOLVE, *BLOCKS, *RUNNER, *SELECT_BY_SCORE, "seed", *MACHINE),
            defaults={"dataset": "mnist", "scoring_sets": "25"},
        ),
        EntryPoint("test", "run the project's tests", ("suite",)),
    )
}

# Of the command line alone: `mlflow run` would hold a run open for as long as it waits.
SERVE = EntryPoint("serve", "offer every flow in the Prefect UI and run it on this machine, until Ctrl-C", ())
COMMANDS = {**ENTRY_POINTS, SERVE.name: SERVE}


def entry_point(name: str) -> EntryPoint:
    """The entry point of that name, or `serve`; raises SettingsError naming the nearest."""
    if name not in COMMANDS:
        raise SettingsError(f"unknown flow {name!r}{nearest(name, COMMANDS)}; flows: {', '.join(COMMANDS)}")
    return COMMANDS[name]


def nearest(name: str, names: Iterable[str]) -> str:
    """The names that a misspelt one may mean, in brackets; empty where none is near."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
