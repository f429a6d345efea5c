"""Doing a task once: what it does is kept by what it depends on, and told to the run from there."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from flows import tracking
from flows.caching import cache_of, key_of
from flows.errors import StoreError
from flows.keys import Recipe, about, narrowed
from flows.settings import Settings
from flows.tracking import Run, Writer

LOG = logging.getLogger(__name__)


def recorded(recipe: Recipe, stage: Callable[..., None]) -> Callable[..., None]:
    """A stage function that works only where nobody has done the same before.

    A run that has been told the result already is left as it is. A result that is on disk is told to the run. Else the
    work is done, sealed on disk, and told: a store that goes away meanwhile loses nothing, for the next call tells it.
    """

    @wraps(stage)
    def once(settings: Settings, run: Run, *given: Any) -> None:
        found = about(recipe, stage, settings, run, *given)
        key = key_of(found)
        before = tracking.recorded_key(run, recipe.task)
        if before == key:
            return
        with cache_of(settings) as cache, cache.locked(recipe.task, key):
            record, unsent = cache.find(recipe.task, key), None
            if reused := record is not None:
                LOG.info("cache    %s: done before, taken over", recipe.task)
            else:
                draft, known = cache.draft(recipe.task, key), frozenset() if before else tracking.known_metrics(run)
                writer = Writer(run.uri, run.experiment_id, run.run_id, draft, known)
                start = time.monotonic()
                stage(narrowed(recipe, settings), writer, *given)
                unsent = writer.unsent
                record = cache.seal(draft, recipe.task, key, found, time.monotonic() - start)
            if before:
                # Its data have changed since: what the run was told before is told anew.
                unsent = record.metrics()
            try:
                tracking.publish(run, recipe.task, key, record, unsent=unsent, reused=reused)
            except StoreError:
                LOG.warning("cache    %s is kept in %s", recipe.task, record.folder)
                raise

    return once
