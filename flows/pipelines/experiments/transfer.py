"""Does a sub-network found on one data set learn another one?

Below the run on top lies one run per seed, and below that one per stage and arm. Arms are trained one after another:
training seeds torch's global generator, so two at once in a process would disturb each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefect import flow

from flows import tracking
from flows.adapters import EARLY, WEIGHTS
from flows.config import Settings, data_name, model_name
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.pipelines.experiments.transfer_inputs import ARM, carried, on_target, with_shape
from flows.stages.experiments import ON_SOURCE, ON_TARGET
from flows.tracking import Run


@dataclass(frozen=True)
class _Side:
    """One of the two data sets within a seed: its settings, the run that all is nested below, and the arms so far."""

    settings: Settings
    parent: Run
    names: Mapping[str, str]
    arms: dict[str, list[Run]] = field(default_factory=dict)

    def title(self, what: str) -> str:
        return f"{data_name(self.settings.dataset)}: {what}"

    def tags(self, arm: str) -> dict[str, str]:
        return {"arm": arm, "trained_on": self.settings.dataset}


@dataclass(frozen=True)
class _Choice:
    """What a mask is chosen by: a rule, and the settings, the network and the program's scores that it looks at."""

    rule: str
    settings: Settings
    ranked: Run
    scored: Run | None = None
    draw: int = 0


@dataclass(frozen=True)
class _Found:
    """What was found on the first data set: initial weights, masks, scores at initialisation, the trained network."""

    settings: Settings
    initial: Run
    masks: Run
    scored_initial: Run
    trained: Run | None


@flow(name="transfer")
def transfer_flow(settings: Settings) -> str:
    """Train sub-networks found on `dataset` on `target`; the id of the run on top."""
    settings = with_shape(settings)
    title = f"transfer: {model_name(settings.model)} from {data_name(settings.dataset)} to {data_name(settings.target)}"
    with stage_runs.flow_run("transfer", settings, title) as parent:
        repeated = [settings.model_copy(update={"seed": settings.seed + number}) for number in range(settings.seeds)]
        done = [_seed(each, parent) for each in repeated]
        tasks.summarise_transfer(settings, parent, [run for run, _ in done], done[0][1])
    return parent.run_id


def _seed(settings: Settings, parent: Run) -> tuple[Run, Run]:
    """All arms of one seed: their run, and the run with the initial weights of those on the target."""
    with stage_runs.stage_run("seed", settings, parent, title=f"seed {settings.seed}", point="transfer") as run:
        # All of one data set before the other, so that both are loaded once.
        source = _Side(settings, run, ON_SOURCE)
        found = _find(source)
        if found.trained is not None:
            _train_on_source(source, found, found.trained)
        target = _Side(on_target(settings), run, ON_TARGET)
        initial = _take_over(target, found.initial, WEIGHTS, "initial weights")
        _train_on_target(target, found, initial)
        tasks.summarise_seed(settings, run, source.arms | target.arms)
    return run, initial


def _find(side: _Side) -> _Found:
    settings, parent = side.settings, side.parent
    with stage_runs.stage_run(
        "initial", settings, parent, title=side.title("initial weights"), point="train"
    ) as initial:
        tasks.initial(settings, initial)
    title = side.title("score at initialisation")
    scored_initial = stage_runs.score_stage(settings, parent, initial, title=title, correct_only=False)
    if settings.mask_run:
        earlier = carried(settings, tracking.store_uri(settings.tracking_uri))
        return _Found(settings, initial, earlier, scored_initial, None)
    trained = _dense(side, "source_dense", initial, settings.rewind_epochs)
    scored = stage_runs.score_stage(settings, parent, trained, title=side.title("score"))
    sources = {"train": trained, "score": scored}
    with stage_runs.stage_run("prune", settings, parent, sources, title=side.title("mask")) as masks:
        tasks.prune(settings, masks, scored, trained, stage_runs.heads_of(scored))
        tasks.evaluate(settings, masks, "pruned")
    return _Found(settings, initial, masks, scored_initial, trained)


def _train_on_source(side: _Side, found: _Found, trained: Run) -> None:
    """The controls on the data that the mask was found on; of the random masks the first draw alone."""
    _carry(side, "ticket", found, found.initial)
    _choose(side, "source_random", found, found.initial, _Choice("random", side.settings, found.initial))
    if side.settings.rewind_epochs:
        _carry(side, "source_rewound", found, trained, EARLY)


def _train_on_target(side: _Side, found: _Found, initial: Run) -> None:
    settings, parent = side.settings, side.parent
    trained = _dense(side, "dense", initial)
    scored = stage_runs.score_stage(settings, parent, trained, title=side.title("score"))
    _carry(side, "transferred", found, initial)
    for draw in range(settings.draws):
        _choose(side, "random", found, initial, _Choice("random", settings, initial, draw=draw))
    _choose(side, "own", found, initial, _Choice(settings.rule, settings, trained, scored))
    for rule, seen in (("program", found.scored_initial), ("snip", None)):
        # On the images of the first data set: what is found at initialisation is carried over like the mask.
        _choose(side, f"initial_{rule}", found, initial, _Choice(rule, found.settings, found.initial, seen))
    if settings.rewind_epochs and found.trained is not None:
        early = _take_over(side, found.trained, EARLY, "early weights")
        _carry(side, "rewound", found, early)


def _take_over(side: _Side, source: Run, file: str, what: str) -> Run:
    sources = {"initial" if file == WEIGHTS else "train": source}
    title = side.title(what)
    with stage_runs.stage_run("initial", side.settings, side.parent, sources, title=title, point="train") as run:
        tasks.take_over(side.settings, run, source, file)
    return run


def _dense(side: _Side, arm: str, initial: Run, early: int = 0) -> Run:
    settings, sources = side.settings, {"initial": initial}
    title, tags = side.title(side.names[arm]), side.tags(arm)
    with stage_runs.stage_run("train", settings, side.parent, sources, title=title, tags=tags) as run:
        tasks.train_arm(settings, run, initial, WEIGHTS, False, early)
        tasks.evaluate(settings, run, title)
    side.arms[arm] = [run]
    return run


def _carry(side: _Side, arm: str, found: _Found, start: Run, file: str = WEIGHTS) -> None:
    settings, sources = side.settings, {"initial": start, "prune": found.masks}
    title, tags = side.title(side.names[arm]), side.tags(arm)
    with stage_runs.stage_run(ARM, settings, side.parent, sources, title=title, tags=tags, point="train") as run:
        tasks.carry(settings, run, found.masks)
        tasks.train_arm(settings, run, start, file, True)
        tasks.evaluate(settings, run, title)
    side.arms[arm] = [run]


def _choose(side: _Side, arm: str, found: _Found, start: Run, choice: _Choice) -> None:
    sources = {"initial": start, "prune": found.masks} | ({"score": choice.scored} if choice.scored else {})
    drawn = f", draw {choice.draw + 1}" if arm == "random" else ""
    title, tags = side.title(side.names[arm] + drawn), side.tags(arm)
    with stage_runs.stage_run(ARM, side.settings, side.parent, sources, title=title, tags=tags, point="train") as run:
        tasks.choose(choice.settings, run, found.masks, choice.ranked, choice.rule, choice.draw, choice.scored)
        tasks.train_arm(side.settings, run, start, WEIGHTS, True)
        tasks.evaluate(side.settings, run, title)
    side.arms.setdefault(arm, []).append(run)
