"""Doing a task once: its result is kept as a record by what it depends on, and published to the run from there."""

import inspect
import logging
import time
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from flows import tracking
from flows.adapters import artifacts
from flows.cache import Draft, OnPart, Part, Returned, StageResult, cache_of, key_of
from flows.config import Settings
from flows.errors import StoreError
from flows.execution.keys import OWN_RUN, Recipe, about, narrowed
from flows.tracking import LiveMetrics, Run

LOG = logging.getLogger(__name__)
VALUE = "value"
Stage = Callable[..., StageResult]


def recorded(recipe: Recipe, stage: Stage, fault: Callable[[Settings, Path], str] | None = None) -> Callable[..., Any]:
    """A task of settings, run and what the stage is given, which works only where nobody has done the same before.

    A run that has been told the result already is left as it is. A result that is on disk is told to the run. Else the
    work is done, sealed on disk, and told: a store that goes away meanwhile loses nothing, for the next call tells it.
    `fault` says what the files of a record have against the settings; empty where they fit.
    """

    # With a block, not by its decorator: tasks are sent to other processes, which takes no generator along.
    @wraps(stage)
    def once(settings: Settings, run: Run, *given: Any) -> object:
        with tracking.each_run_asked_once():
            return work(settings, run, *given)

    def work(settings: Settings, run: Run, *given: Any) -> object:
        found = about(recipe, stage, settings, run, *given)
        task, key = str(found["task"]), key_of(found)
        returned = f"returned/{task}.json"
        before = tracking.recorded_key(run, task)
        if before == key and tracking.is_whole(run, task):
            return run.json(returned)[VALUE] if recipe.returns else None
        with cache_of(settings) as cache, cache.locked(task, key):
            record, unsent = cache.find(task, key), None
            if record and fault and (reason := fault(settings, record.files)):
                cache.reject(task, key, reason)
                record = None
            if reused := record is not None:
                LOG.info("cache    %s: done before, taken over", task)
            else:
                live = LiveMetrics(run, tracking.known_metrics(run) if before in ("", key) else frozenset())
                start = time.monotonic()
                with cache.writing(task):
                    draft = cache.draft(task, key)
                    _keep(_done(stage, narrowed(recipe, settings), run, given, live), draft, returned)
                unsent = live.unsent
                record = cache.seal(draft, task, key, found, time.monotonic() - start)
            if before not in ("", key):
                # Its data have changed since: what the run was told before is told anew.
                unsent = record.metrics()
            try:
                tracking.publish(run, task, key, record, unsent=unsent, reused=reused)
            except StoreError:
                LOG.warning("cache    %s is kept in %s", task, record.folder)
                raise
        return run.json(returned)[VALUE] if recipe.returns else None

    # Prefect reads it; a function has it by convention, not by its type.
    once.__signature__ = _with_run(stage)  # type: ignore[attr-defined]
    return once


def told(stage: Stage) -> Callable[..., None]:
    """A task of settings, run and what the stage is given that is done whenever it is asked for.

    The run is told every part of the result at once, so that what a failed stage found is there.
    """

    @wraps(stage)
    def again(settings: Settings, run: Run, *given: Any) -> None:
        with tracking.each_run_asked_once():
            stage(settings, *_inputs(stage, run, given), on_part=tracking.teller(run))

    # Prefect reads it; a function has it by convention, not by its type.
    again.__signature__ = _with_run(stage)  # type: ignore[attr-defined]
    return again


def publish_settings(settings: Settings, run: Run) -> None:
    """Tell a run the settings as they were understood; later stages read them."""
    artifacts.log_settings(tracking.telling_at_once(run), settings)


def _done(stage: Stage, settings: Settings, run: Run, given: tuple[Any, ...], live: OnPart) -> StageResult:
    """The result of a stage; what it had found before it failed is told to the run."""
    found: list[Part] = []

    def heard(part: Part) -> None:
        found.append(part)
        live(part)

    try:
        return stage(settings, *_inputs(stage, run, given), on_part=heard)
    # Whatever a stage raises, what it had found is told; it is raised again.
    except Exception:
        tracking.publish_unfinished(run, found)
        raise


def _keep(result: StageResult, draft: Draft, returned: str) -> None:
    """Write a result to a record, and what the stage says to its caller to a file of it."""
    kept = StageResult(parts=[part for part in result.parts if not isinstance(part, Returned)])
    if len(kept.parts) < len(result.parts):
        kept.add_json({VALUE: result.value}, returned)
    for entry in tracking.entries_of(kept.parts, draft.files):
        draft.append(entry)


def _inputs(stage: Stage, run: Run, given: Iterable[Any]) -> tuple[Any, ...]:
    """What a stage is given after its settings; the run itself first, where the stage reads what is there already."""
    return (run, *given) if OWN_RUN in inspect.signature(stage).parameters else tuple(given)


def _with_run(stage: Stage) -> inspect.Signature:
    """The signature of a task: that of its stage with the run second, and without the listener."""
    signature = inspect.signature(stage)
    settings, *others = [each for each in signature.parameters.values() if each.kind is not each.KEYWORD_ONLY]
    run = inspect.Parameter(OWN_RUN, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Run)
    inputs = [each for each in others if each.name != OWN_RUN]
    return signature.replace(parameters=[settings, run, *inputs])
