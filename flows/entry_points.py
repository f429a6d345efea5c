"""Which settings each entry point takes, and how words on a command line become settings."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from flows.errors import SettingsError
from flows.settings import Settings

DATA = ("dataset", "data_root", "image_size", "channels", "limit")
NETWORK = ("model", "checkpoint", "new_head")
FIT = ("epochs", "learning_rate", "batch_size", "optimiser", "weight_decay")
SAMPLE = ("images_per_class", "scoring_sets", "sets_seed", "order")
SOLVE = (
    *("loss_weight", "radius", "gate", "relax", "integer_scores", "layer_weight", "allow_degenerate"),
    *("solver", "solver_options", "time_limit", "gap", "cuts", "break_ties"),
)
PROGRAM = (*SOLVE, "workers", "explain", "ranges")
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
            (*DATA, *NETWORK, *FIT, *SAMPLE, *PROGRAM, *PRUNE, *RETRAIN, *COMPACT, "seed", *MACHINE),
        ),
        EntryPoint("train", "train a network", (*DATA, *NETWORK, *FIT, "seed", *MACHINE)),
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
            free=("data_root", "learning_rate", "batch_size", "optimiser", "weight_decay"),
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
                *(*FIT, "images_per_class", "draws", "workers", "seed", *MACHINE),
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
            (*DATA, *NETWORK, *FIT, *SAMPLE, *SOLVE, "workers", *SELECT_BY_SCORE, "seed", *MACHINE),
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
        raise SettingsError(f"unknown flow {name!r}{_nearest(name, COMMANDS)}; flows: {', '.join(COMMANDS)}")
    return COMMANDS[name]


def words_of(point: EntryPoint, arguments: Sequence[str]) -> dict[str, str]:
    """The settings named on a command line, `--name value` or `--name=value`, still as text.

    Raises SettingsError for an unknown or repeated name, a stray word, a missing value and a missing run_id.
    """
    words: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SettingsError(f"stray word {word!r}: parameters are written --name value")
        name, has_value, value = word[2:].partition("=")
        name = name.replace("-", "_")
        _require_known(point, name)
        if name in words:
            raise SettingsError(f"{name} is given twice: give it once")
        if not has_value:
            if not rest:
                raise SettingsError(f"{name} has no value: write --{name} value")
            value = rest.pop(0)
        words[name] = value
    require_words(point, words)
    return words


def require_words(point: EntryPoint, words: Mapping[str, object]) -> None:
    """Raise SettingsError for a name that the entry point does not take, and for a missing run_id."""
    for name in words:
        _require_known(point, name)
    if point.after and not words.get("run_id"):
        stages = " or ".join(point.continues)
        raise SettingsError(f"run_id is missing: {point.name} continues the run of a {stages} stage")


def settings_of(values: Mapping[str, object]) -> Settings:
    """Settings from named values, text or typed; raises SettingsError with every fault in one line."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError("; ".join(_fault(values, item["loc"], item["msg"]) for item in error.errors())) from error


def inherit(point: EntryPoint, words: Mapping[str, object], earlier: Settings) -> Settings:
    """The settings of a stage that continues an earlier run.

    Its own settings are as given or by default, all others as in the earlier run; SettingsError where a given value
    contradicts the network or the data of that run.
    """
    given = settings_of(words)
    for name in point.fixed:
        was, now = getattr(earlier, name), getattr(given, name)
        if name in words and now != was:
            raise SettingsError(f"{name}={now}: run {given.run_id} has {name}={was}; leave {name} out, or train anew")
    taken = {name: getattr(given, name) for name in point.accepted if name in point.own or name in words}
    return earlier.model_copy(update=taken)


def help_of(point: EntryPoint) -> str:
    """The entry point's help: one line per setting, with its default."""
    lines = [f"python -m flows {point.name} [--name value ...]", "", point.summary, ""]
    lines += [_help_line(name, point.defaults.get(name) or _default(name)) for name in point.own]
    if point.after:
        lines += ["", "as in the earlier run, unless given:"]
        lines += [_help_line(name, "as before") for name in point.free]
        lines += ["", "as in the earlier run; another value is refused:", "  " + ", ".join(point.fixed)]
    return "\n".join(lines)


def overview() -> str:
    """The help of the command line as a whole."""
    lines = ["python -m flows <flow> [--name value ...]", "python -m flows <flow> --help", ""]
    return "\n".join(lines + [f"  {point.name:<10} {point.summary}" for point in COMMANDS.values()])


def _help_line(name: str, default: str) -> str:
    return f"  --{name:<17} {Settings.model_fields[name].description} [{default}]"


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if name == "run_id":
        return "required"
    return str(default).lower() if isinstance(default, bool) else str(default) or "empty"


def _require_known(point: EntryPoint, name: str) -> None:
    if name in point.accepted:
        return
    if name in Settings.model_fields:
        takers = ", ".join(other.name for other in ENTRY_POINTS.values() if name in other.accepted)
        raise SettingsError(f"flow {point.name} takes no parameter {name!r}; it belongs to: {takers}")
    remedy = f"see python -m flows {point.name} --help"
    raise SettingsError(f"unknown parameter {name!r}{_nearest(name, point.accepted)}; {remedy}")


def _nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""


def _fault(values: Mapping[str, object], place: tuple[int | str, ...], message: str) -> str:
    name = str(place[0]) if place else "settings"
    text = message.removeprefix("Value error, ")
    if text.startswith("Input should be"):
        text = "must be" + text.removeprefix("Input should be")
    elif text.startswith("Extra inputs"):
        return f"unknown parameter {name!r}{_nearest(name, list(Settings.model_fields))}"
    return f"{name}={values.get(name)}: {text}"
