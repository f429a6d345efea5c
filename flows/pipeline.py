"""The Prefect flows: train -> sample -> score (mapped, averaged) -> prune -> evaluate -> retrain -> compact.

`gradual` trains and removes by turns. Every flow has one MLflow run with a nested run per stage; single stages continue
from what an earlier run logged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import flow, unmapped
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import handover, tasks, tracking
from flows.entry_points import ENTRY_POINTS
from flows.errors import FlowError
from flows.settings import Settings
from flows.tracking import Run
from training import TrainingError


@flow(name="main")
def main(settings: Settings) -> str:
    """The whole way, from data to the compacted network; the id of the run on top."""
    with _flow_run("main", settings) as parent:
        trained = _train(settings, parent)
        scored = _score(settings, parent, trained)
        pruned = _prune(settings, parent, scored, trained)
        retrained = _retrain(settings, parent, pruned)
        stages = {"train": trained, "score": scored, "prune": pruned, "retrain": retrained}
        try:
            stages["compact"] = _compact(settings, parent, retrained)
        except (FlowError, TrainingError):
            # The way so far is worth its summary: a network that cannot be made smaller is pruned all the same.
            tasks.summarise(settings, parent, stages)
            raise
        tasks.summarise(settings, parent, stages)
    return parent.run_id


@flow(name="train")
def train(settings: Settings) -> str:
    """Train a network; the id of the run on top."""
    with _flow_run("train", settings) as parent:
        _train(settings, parent)
    return parent.run_id


@flow(name="score")
def score(settings: Settings) -> str:
    """Score the network that run `settings.run_id` trained; the id of the run on top."""
    with _flow_run("score", settings) as parent:
        _score(settings, parent, _earlier(settings, "train"))
    return parent.run_id


@flow(name="prune")
def prune(settings: Settings) -> str:
    """Prune the network that run `settings.run_id` scored; the id of the run on top."""
    with _flow_run("prune", settings) as parent:
        scored = _earlier(settings, "score")
        _prune(settings, parent, scored, tracking.find_stage(scored, "train"))
    return parent.run_id


@flow(name="retrain")
def retrain(settings: Settings) -> str:
    """Retrain the network that run `settings.run_id` pruned; the id of the run on top."""
    with _flow_run("retrain", settings) as parent:
        _retrain(settings, parent, _earlier(settings, "prune"))
    return parent.run_id


@flow(name="compact")
def compact(settings: Settings) -> str:
    """Compact the network that run `settings.run_id` retrained or pruned, gradually too; the id of the run on top."""
    with _flow_run("compact", settings) as parent:
        _compact(settings, parent, _earlier(settings, *ENTRY_POINTS["compact"].continues))
    return parent.run_id


@flow(name="gradual")
def gradual(settings: Settings) -> str:
    """Train a network and remove units in steps; the id of the run on top."""
    with _flow_run("gradual", settings) as parent, _stage_run("gradual", settings, parent) as run:
        tasks.gradual(settings, run)
        tasks.evaluate(settings, run, "gradually pruned")
        # Last, because MLflow ends the run with it.
        tasks.log_network(settings, run)
    return parent.run_id


@flow(name="check")
def check(settings: Settings) -> str:
    """Check every solution of run `settings.run_id` again; the id of the run on top."""
    with _flow_run("check", settings) as parent:
        scored = _earlier(settings, "score")
        trained = tracking.find_stage(scored, "train")
        with _stage_run("check", settings, parent, train=trained, score=scored) as run:
            tasks.check(settings, run, scored, trained)
    return parent.run_id


FLOWS = {each.name: each for each in (main, train, score, prune, retrain, compact, gradual, check)}


def _train(settings: Settings, parent: Run) -> Run:
    with _stage_run("train", settings, parent) as run:
        tasks.train(settings, run)
        tasks.evaluate(settings, run, "trained")
    return run


def _score(settings: Settings, parent: Run, trained: Run) -> Run:
    with _stage_run("score", settings, parent, train=trained) as run:
        numbers = tasks.sample(settings, run, trained)
        solved = tasks.score_set.map(unmapped(settings), unmapped(run), unmapped(trained), numbers)
        tasks.average(settings, run, solved.result())
    return run


def _prune(settings: Settings, parent: Run, scored: Run, trained: Run) -> Run:
    with _stage_run("prune", settings, parent, train=trained, score=scored) as run:
        tasks.prune(settings, run, scored, trained)
        tasks.evaluate(settings, run, "pruned")
        tasks.compare(settings, run, scored, trained)
    return run


def _retrain(settings: Settings, parent: Run, pruned: Run) -> Run:
    with _stage_run("retrain", settings, parent, prune=pruned) as run:
        tasks.retrain(settings, run, pruned)
        tasks.evaluate(settings, run, "retrained")
        # Last, because MLflow ends the run with it.
        tasks.log_network(settings, run)
    return run


def _compact(settings: Settings, parent: Run, source: Run) -> Run:
    stage = tracking.logged_tags(source)["stage"]
    with _stage_run("compact", settings, parent, **{stage: source}) as run:
        tasks.compact(settings, run, source)
    return run


def run_flow(name: str, settings: Settings) -> str:
    """Run a flow by its name, `settings.workers` tasks at a time; the id of the run on top."""
    # Threads: process workers would each start a Prefect server of their own.
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=settings.workers)
    return FLOWS[name].with_options(task_runner=runner)(settings)


@contextmanager
def _flow_run(name: str, settings: Settings) -> Iterator[Run]:
    store = tracking.open_store(tracking.store_uri(settings.tracking_uri), settings.experiment)
    title = f"{name}: {settings.model} on {settings.dataset}"
    with tracking.open_flow_run(store, title, {"flow": name}) as run:
        tracking.log_params(run, _params(name, settings))
        handover.save_settings(run, settings)
        yield run


@contextmanager
def _stage_run(stage: str, settings: Settings, parent: Run, **sources: Run) -> Iterator[Run]:
    tags = {"stage": stage} | {f"from.{name}": source.run_id for name, source in sources.items()}
    with tracking.open_run(parent, stage, tags) as run:
        tracking.log_params(run, _params(stage, settings))
        handover.save_settings(run, settings)
        yield run


def _earlier(settings: Settings, *stages: str) -> Run:
    return tracking.find_stage(tracking.find_run(tracking.store_uri(settings.tracking_uri), settings.run_id), *stages)


def _params(flow_name: str, settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in ENTRY_POINTS[flow_name].accepted}
