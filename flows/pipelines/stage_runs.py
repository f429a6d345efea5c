"""The stages of a flow, each in an MLflow run of its own below another: what flows and experiments are made of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from filelock import Timeout

from flows import tracking
from flows.adapters import ProgramSpec, by_block
from flows.cache import cache_of
from flows.config import ENTRY_POINTS, NEVER, TRAITS, Settings, chosen, subject_of
from flows.execution import identity_of, map_tasks, prefect_tags, progress_of, publish_settings, show_in_prefect, tasks
from flows.stages.fitting import HEADS_TAG
from flows.tracking import Run

TITLE = 52  # characters


def train_stage(settings: Settings, parent: Run) -> Run:
    """Train and evaluate the settings' network, as a whole or by block; the run of the stage."""
    with stage_run("train", settings, parent) as run:
        (tasks.train_by_block if settings.fit_by == "block" else tasks.train)(settings, run)
        tasks.evaluate(settings, run, "trained")
    return run


def score_stage(settings: Settings, parent: Run, trained: Run, *, title: str = "", correct_only: bool = True) -> Run:
    """Draw scoring sets, score the units of a trained network on each, `settings.workers` at a time, and average.

    By block, auxiliary heads are trained first. Without `correct_only` the images are drawn whatever the network makes
    of them.
    """
    headed = heads_stage(settings, parent, trained, title=f"heads for {title}" if title else "")
    sources = {"train": trained} | ({"heads": headed} if headed else {})
    with stage_run("score", settings, parent, sources, title=title) as run:
        tasks.sample(settings, run, trained, correct_only)
        tasks.average(settings, run, solve_programs(settings, run, trained, headed, settings.scoring_sets))
    return run


def solve_programs(settings: Settings, run: Run, trained: Run, headed: Run | None, sets: int) -> list[Run]:
    """Solve all programs of the scoring sets that a run has drawn, those that take longest first; their runs."""
    programs = tasks.lay_out(settings, run, trained, sets)
    calls = [(settings, run, trained, headed, program) for program in programs]
    names = [str(ProgramSpec(**program)) for program in programs]
    return map_tasks(settings, tasks.score_set, calls, names=names, progress=progress_of(run))


def heads_stage(settings: Settings, parent: Run, trained: Run, *, title: str = "") -> Run | None:
    """The run with the heads of a trained network's blocks, its own or that of a new stage; None without blocks."""
    if not by_block(settings):
        return None
    if trained.tags().get(HEADS_TAG) == settings.blocks:
        return trained
    with stage_run("heads", settings, parent, {"train": trained}, title=title) as run:
        tasks.fit_heads(settings, run, trained)
    return run


def heads_of(scored: Run) -> Run | None:
    """The run whose heads a score stage has used; None where it scored the whole network."""
    found = scored.tags().get("from.heads")
    return tracking.find_run(scored.uri, found) if found else None


def prune_stage(settings: Settings, parent: Run, scored: Run, trained: Run, *, final: bool = False) -> Run:
    """Prune a trained network by the scores of a run, evaluate it, and compare with other rules.

    Where it is the `final` network and is to be registered, it is logged as a model.
    """
    with stage_run("prune", settings, parent, {"train": trained, "score": scored}) as run:
        tasks.prune(settings, run, scored, trained, heads_of(scored))
        tasks.evaluate(settings, run, "pruned")
        tasks.compare(settings, run, scored, trained)
        if final and settings.register_as:
            tasks.log_masked(settings, run, parent)
    return run


def retrain_stage(settings: Settings, parent: Run, pruned: Run, *, final: bool = True) -> Run:
    """Train a pruned network on and evaluate it; the `final` one is logged as a model."""
    with stage_run("retrain", settings, parent, {"prune": pruned}) as run:
        tasks.retrain(settings, run, pruned)
        tasks.evaluate(settings, run, "retrained")
        if final:
            tasks.log_masked(settings, run, parent)
    return run


def compact_stage(settings: Settings, parent: Run, source: Run) -> Run:
    """Make the network of a run smaller, and log it as a model."""
    stage = source.tags()["stage"]
    with stage_run("compact", settings, parent, {stage: source}) as run:
        tasks.compact(settings, run, source)
        tasks.log_compacted(settings, run, parent, source)
    return run


def gradual_stage(settings: Settings, parent: Run) -> Run:
    """Train a network while its units go, evaluate it, and log it as a model."""
    with stage_run("gradual", settings, parent) as run:
        tasks.gradual(settings, run)
        tasks.evaluate(settings, run, "gradually pruned")
        tasks.log_masked(settings, run, parent)
    return run


def check_stage(settings: Settings, parent: Run, scored: Run) -> Run:
    """Check every solution of a run again."""
    trained = tracking.find_stage(scored, "train")
    with stage_run("check", settings, parent, {"train": trained, "score": scored}) as run:
        tasks.check(settings, run, scored, trained, heads_of(scored))
    return run


def earlier(settings: Settings, *stages: str) -> Run:
    """The run of a stage that `settings.run_id` names or belongs to."""
    return tracking.find_stage(tracking.find_run(tracking.store_uri(settings.tracking_uri), settings.run_id), *stages)


@contextmanager
def flow_run(name: str, settings: Settings, title: str = "") -> Iterator[Run]:
    """The run on top of a flow, with its parameters and settings."""
    store = tracking.open_store(tracking.store_uri(settings.tracking_uri), settings.experiment)
    title = title or run_title(name, settings)
    # A flow may have the name of its stage.
    identity = identity_of(f"flow {name}", settings)
    with (
        _claimed(settings, identity) as resume,
        tracking.open_flow_run(
            *(store, title, {"flow": name, **prefect_tags()}, identity),
            resume=resume,
            system_metrics=settings.system_metrics,
        ) as run,
    ):
        show_in_prefect(run, title)
        tracking.log_params(run, _params(name, settings))
        publish_settings(settings, run)
        yield run


@contextmanager
def stage_run(
    stage: str,
    settings: Settings,
    parent: Run,
    sources: Mapping[str, Run] | None = None,
    *,
    title: str = "",
    tags: Mapping[str, str] | None = None,
    point: str = "",
) -> Iterator[Run]:
    """The run of a stage below another, with its parameters, its settings and where it came from.

    `stage` is its tag, `title` its name where that is another, `tags` are further ones. The parameters are those of the
    entry point `point`, by default that of the stage's name, or of the flow where there is none.
    """
    origins = {f"from.{name}": source.run_id for name, source in (sources or {}).items()}
    all_tags = {**(tags or {}), "stage": stage, **origins}
    identity = identity_of(title or stage, settings, sources)
    with tracking.open_run(parent, title or stage, all_tags, identity) as run:
        tracking.log_params(run, _params(point or stage, settings))
        publish_settings(settings, run)
        yield run


@contextmanager
def _claimed(settings: Settings, identity: str) -> Iterator[bool]:
    """Whether this process alone is at a flow of that identity, and may go on where an earlier one was interrupted."""
    with cache_of(settings) as cache:
        cache.forget()
        lock = cache.lock(f"flow-{identity}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # The same command twice at the same time: two runs, which share the work.
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def run_title(name: str, settings: Settings) -> str:
    """What tells runs of a flow apart in a list: what was chosen otherwise than usual, the network and the data.

    The UI cuts a name at its end, so that what people compare comes first. It is cut to about `TITLE` characters here,
    because the UI makes the picture of a run as wide as its name. All settings are the run's parameters.
    """
    own = chosen(ENTRY_POINTS[name], settings)
    names = sorted((each for each in own if TRAITS[each].title != NEVER), key=lambda each: TRAITS[each].title)
    title, words = (
        f"{name}: {subject_of(settings)}",
        [f"{each}={own[each]}" for each in names],
    )
    shown = len(words)
    while shown and len(title) + len(", ".join(words[:shown])) > TITLE:
        shown -= 1
    listed = [*words[:shown], *(["…"] if shown < len(words) else [])]
    return f"{', '.join(listed)} ({title})" if words else title


def _params(name: str, settings: Settings) -> dict[str, object]:
    names = ENTRY_POINTS[name].accepted if name in ENTRY_POINTS else ENTRY_POINTS["main"].accepted
    # As they are stored, without what is secret.
    values = settings.model_dump()
    return {each: values[each] for each in names}
