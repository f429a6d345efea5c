"""Entry points, each with the settings that it takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flows.config.groups import (
    BlockSettings,
    CompactionSettings,
    ComparisonSettings,
    DataSettings,
    ExplanationSettings,
    FittingSettings,
    MachineSettings,
    NetworkSettings,
    PresetSettings,
    ProgramSettings,
    RegistrySettings,
    RemovalSettings,
    ReproductionSettings,
    RetrainingSettings,
    RunnerSettings,
    SampleSettings,
    SelectionSettings,
    SettingsGroup,
    StoreSettings,
    SweepSettings,
    TransferSettings,
)
from flows.config.settings import IDENTITY
from flows.errors import SettingsError
from naming import did_you_mean


def settings_in(group: type[SettingsGroup], without: Iterable[str] = ()) -> tuple[str, ...]:
    """The settings of a group in their order, but for some."""
    return tuple(name for name in group.model_fields if name not in without)


DATA, NETWORK, SAMPLE = settings_in(DataSettings), settings_in(NetworkSettings), settings_in(SampleSettings)
FIT = settings_in(FittingSettings, without=["fit_by"])
LEARNING = settings_in(FittingSettings, without=["epochs", "fit_by"])
SOLVE, RUNNER = settings_in(ProgramSettings), settings_in(RunnerSettings)
BLOCKS = settings_in(BlockSettings, without=["by_class"])
PROGRAM = (*SOLVE, *settings_in(BlockSettings), *RUNNER, *settings_in(ExplanationSettings))
SELECT = settings_in(SelectionSettings)
SELECT_EXPERIMENT_DEFAULTS = settings_in(SelectionSettings, without=["rule"])
PRESET, REGISTRY = settings_in(PresetSettings), settings_in(RegistrySettings)
PRUNE = (*SELECT, *settings_in(RemovalSettings, without=["when", "every"]), *settings_in(ComparisonSettings))
REFIT = ("refit", "refit_images")
# Training follows every removal there: survivors take over by it.
GRADUAL = (
    *settings_in(SelectionSettings, without=["threshold"]),
    *settings_in(RemovalSettings, without=["schedule", *REFIT]),
)
RETRAIN, COMPACT = settings_in(RetrainingSettings), settings_in(CompactionSettings)
# Where many masks are compared, each is what the scores alone say, at the cost of no search.
EXPERIMENT_DEFAULTS = {"selection": "threshold"}
MACHINE = (*settings_in(MachineSettings, without=["seed"]), *settings_in(StoreSettings))


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
                *(*DATA, *NETWORK, *FIT, "fit_by", *PRESET, *SAMPLE, *PROGRAM),
                *(*PRUNE, *RETRAIN, *COMPACT, *REGISTRY, "seed", *MACHINE),
            ),
        ),
        EntryPoint("train", "train a network", (*DATA, *NETWORK, *FIT, "fit_by", "blocks", "seed", *MACHINE)),
        EntryPoint(
            "score",
            "score the units of the network that an earlier run trained",
            ("run_id", *PRESET, *SAMPLE, *PROGRAM, *MACHINE),
            free=("data_root", "batch_size"),
            fixed=IDENTITY,
            after="train",
        ),
        EntryPoint(
            "prune",
            "remove units that an earlier run scored, at once or in steps, and compare with other rules",
            ("run_id", *PRESET, *PRUNE, *REGISTRY, *MACHINE),
            free=("data_root", "batch_size", "solver_options"),
            fixed=IDENTITY,
            after="score",
        ),
        EntryPoint(
            "retrain",
            "train the network that an earlier run pruned",
            ("run_id", *RETRAIN, *REGISTRY, *MACHINE),
            free=("data_root", *LEARNING),
            fixed=IDENTITY,
            after="prune",
        ),
        EntryPoint(
            "compact",
            "make the network that an earlier run pruned or retrained smaller, and measure what that saves",
            ("run_id", *COMPACT, *REGISTRY, *MACHINE),
            free=("data_root", "batch_size"),
            fixed=IDENTITY,
            after="retrain",
            or_after=("arm", "prune", "gradual"),
        ),
        EntryPoint(
            "gradual",
            "train a network and remove units in steps, between epochs or before the first",
            (*DATA, *NETWORK, *FIT, *SAMPLE, *SOLVE, *GRADUAL, *REGISTRY, "seed", *MACHINE),
            defaults={"selection": "share"},
        ),
        EntryPoint(
            "check",
            "compute every stored solution of an earlier run again, without the solver",
            ("run_id", "exact", *MACHINE),
            free=("data_root",),
            fixed=IDENTITY,
            after="score",
        ),
        EntryPoint(
            "transfer",
            "train sub-networks found on one data set on another, beside random ones and its own",
            (
                *settings_in(TransferSettings),
                *(*DATA, *NETWORK, *FIT, *PRESET, *SAMPLE, *PROGRAM, *SELECT, "draws", "seed", *MACHINE),
            ),
            defaults={"dataset": "mnist", **EXPERIMENT_DEFAULTS},
        ),
        EntryPoint(
            "reproduce",
            "the published table on these data, and the same table with this project's own settings",
            (
                *(*settings_in(ReproductionSettings), "seeds", "data_root", "limit"),
                *(*FIT, "images_per_class", "draws", *RUNNER, "seed", *MACHINE),
            ),
            defaults={"epochs": "5", "images_per_class": "100"},
        ),
        EntryPoint(
            "sweep",
            "score and prune one network with many values of one setting",
            (
                *settings_in(SweepSettings),
                *DATA,
                *NETWORK,
                *FIT,
                *PRESET,
                *SAMPLE,
                *PROGRAM,
                *SELECT_EXPERIMENT_DEFAULTS,
                *REFIT,
                "seed",
                *MACHINE,
            ),
            defaults=EXPERIMENT_DEFAULTS,
        ),
        EntryPoint(
            "robustness",
            "how far scores depend on the images that they are computed from",
            (
                *(*DATA, *NETWORK, *FIT, *PRESET, *SAMPLE, *SOLVE, *BLOCKS, *RUNNER),
                *(*SELECT_EXPERIMENT_DEFAULTS, *REFIT, "seed", *MACHINE),
            ),
            defaults={"dataset": "mnist", "scoring_sets": "25", **EXPERIMENT_DEFAULTS},
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
    hint = did_you_mean(name, names, most=3)
    return f" ({hint})" if hint else ""
