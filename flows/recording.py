"""Doing a task once: what it does is kept by what it depends on, and told to the run from there."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flows import tracking
from flows.caching import cache_of, key_of
from flows.errors import StoreError
from flows.keys import Recipe, about, narrowed
from flows.settings import Settings
from flows.tracking import Run, Writer

LOG = logging.getLogger(__name__)
VALUE = "value"
R = TypeVar("R")


def recorded(recipe: Recipe, stage: Callable[..., R]) -> Callable[..., R]:
    """A stage function that works only where nobody has done the same before.

    A run that has been told the result already is left as it is. A result that is on disk is told to the run. Else the
    work is done, sealed on disk, and told: a store that goes away meanwhile loses nothing, for the next call tells it.
    """

    @wraps(stage)
    def once(settings: Settings, run: Run, *given: Any) -> R:
        found = about(recipe, stage, settings, run, *given)
        task, key = str(found["task"]), key_of(found)
        returned = f"returned/{task}.json"
        before = tracking.recorded_key(run, task)
        if before == key:
            return cast(R, tracking.logged_json(run, returned)[VALUE] if recipe.returns else None)
        with cache_of(settings) as cache, cache.locked(task, key):
            record, unsent = cache.find(task, key), None
            if reused := record is not None:
                LOG.info("cache    %s: done before, taken over", task)
            else:
                draft, known = cache.draft(task, key), frozenset() if before else tracking.known_metrics(run)
                writer = Writer(run.uri, run.experiment_id, run.run_id, draft, known)
                start = time.monotonic()
                try:
                    with cache.writing(task):
                        value = stage(narrowed(recipe, settings), writer, *given)
                        if recipe.returns:
                            tracking.log_json(writer, {VALUE: value}, returned)
                except Exception:
                    tracking.publish_unfinished(run, draft)
                    raise
                unsent = writer.unsent
                record = cache.seal(draft, task, key, found, time.monotonic() - start)
            if before:
                # Its data have changed since: what the run was told before is told anew.
                unsent = record.metrics()
            try:
                tracking.publish(run, task, key, record, unsent=unsent, reused=reused)
            except StoreError:
                LOG.warning("cache    %s is kept in %s", task, record.folder)
                raise
        return cast(R, tracking.logged_json(run, returned)[VALUE] if recipe.returns else None)

    return once
