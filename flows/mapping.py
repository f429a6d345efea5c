"""A task over many arguments, a few at a time, whatever the task runner."""

from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture, as_completed


def map_limited(task: Task[..., Any], calls: Sequence[tuple[Any, ...]], limit: int) -> list[Any]:
    """The task's result for every call's arguments, in the order of the calls; never more than `limit` at work at once.

    Raises what the first failing call raised, after those at work have ended.
    """
    futures: list[PrefectFuture[Any]] = []
    for call in calls:
        working = [future for future in futures if not future.state.is_final()]
        if len(working) >= limit:
            next(iter(as_completed(working)))
        futures.append(task.submit(*call))
    return [future.result() for future in futures]
