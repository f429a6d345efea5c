"""Doing a task once: what it does is kept by what it depends on, and told to the run from there."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from flows import tracking
from flows.errors import StoreError
from flows.keys import Recipe, about, key_of, narrowed
from flows.records import Cache, without_cache
from flows.settings import Settings
from flows.tracking import Run, Writer

LOG = logging.getLogger(__name__)
NO_CACHE = "none"
DEFAULT_CACHE = Path.home() / ".cache" / "critical-neurons" / "work"


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


@contextmanager
def cache_of(settings: Settings) -> Iterator[Cache]:
    """The settings' cache: the folder named, else $CRITICAL_NEURONS_CACHE, else one in the home folder; or none."""
    named = settings.cache or os.environ.get("CRITICAL_NEURONS_CACHE", "")
    if named == NO_CACHE:
        with without_cache() as cache:
            yield cache
        return
    yield Cache(Path(named).expanduser().resolve() if named else DEFAULT_CACHE)
