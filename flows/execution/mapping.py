"""A task over many calls, side by side on the settings' task runner: each is finished and kept, whatever others do."""

import inspect
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture

from flows.config import Settings
from flows.errors import ArtifactError, CacheError, ClusterError, FlowError, ServerError, SettingsError
from flows.execution.cluster import gone
from flows.execution.log_lines import MENDABLE, one_line
from flows.execution.runners import Running, for_workers, placed, running
from flows.execution.vanished import services_of, vanished, vanishing
from formulation import FormulationError, SolverFailed, TimeLimitReached
from formulation.errors import InfeasibleProgram
from training import TrainingError

LOG = logging.getLogger(__name__)
POLL = 0.05  # seconds between two looks at what has ended
FETCHED = 5.0  # seconds in which the result of a call that is done has to come
MOMENT = 2.0  # seconds: whoever ends the whole flow kills its workers first, and is not to be told of it
# What is the same the second time; SolverFailed itself is not among them, but two of its kinds are.
SAME = (
    *(SettingsError, ArtifactError, ServerError, CacheError, ClusterError),
    *(TrainingError, TimeLimitReached, InfeasibleProgram),
)
CallProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class CallEnd:
    """A call that has ended: with a result, or with an error."""

    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Work:
    """A task and its calls, by name, and who is told of those that are done."""

    settings: Settings
    task: Task[..., Any]
    calls: Sequence[tuple[Any, ...]]
    names: Sequence[str]
    progress: CallProgress | None

    def parameters(self, number: int) -> dict[str, Any]:
        """The arguments of one call by name."""
        call = inspect.signature(self.task.fn).bind(*self.calls[number]).arguments
        return placed(self.settings, call)


def map_tasks(
    settings: Settings,
    task: Task[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    progress: CallProgress | None = None,
) -> list[Any]:
    """The task's result for every call's arguments, in the order of the calls, which begin in that order.

    At most `workers_of(settings)` are at work at once, on a Dask cluster that was there before as many as its workers
    have threads. A call that fails is tried once more, alone, when the others have ended. What a killed process of a
    pool takes with it is tried again side by side first, then alone as well: a call that kills takes no other along.
    `progress` is told (done, of how many, the call's name) in the caller's thread.

    Raises the error of the first call that failed twice, with its name in front, when all others have been finished;
    FlowError where workers are lost, ClusterError where a cluster goes away.
    """
    with vanishing(services_of(settings)):
        return _mapped(settings, task, calls, names, progress)


def _mapped(
    settings: Settings,
    task: Task[..., Any],
    calls: Sequence[tuple[Any, ...]],
    names: Sequence[str],
    progress: CallProgress | None,
) -> list[Any]:
    work = Work(settings, task, calls, names, progress)
    ended: dict[int, CallEnd] = {}
    _side_by_side(work, range(len(calls)), ended)
    if lost := [number for number, each in ended.items() if isinstance(each.error, BrokenProcessPool)]:
        time.sleep(MOMENT)
        LOG.warning("workers  a process was killed: %s tried again", _listed(work, sorted(lost)))
        _side_by_side(work, sorted(lost), ended)
    for number in sorted(ended):
        error = ended[number].error
        if error is not None and _may_pass(error):
            LOG.warning("workers  %s: tried again, alone: %s", names[number], _said(error))
            _side_by_side(work, [number], ended)
    _raise_first(work, ended)
    return [ended[number].result for number in range(len(calls))]


def _side_by_side(work: Work, numbers: Iterable[int], ended: dict[int, CallEnd]) -> None:
    """Do these calls, and put down how each has ended."""
    left = deque(numbers)
    if not left:
        return
    with running(work.settings, len(left)) as runner:
        task = for_workers(work.task, work.settings)
        waiting: dict[int, PrefectFuture[Any]] = {}
        while left or waiting:
            for _ in range(min(len(left), runner.look() - len(waiting))):
                number = left.popleft()
                waiting[number] = runner.submit(task, work.parameters(number))
            ready = [each for each, future in waiting.items() if _is_done(future)]
            for number in ready:
                if (how := _ended(waiting[number], runner)) is None:
                    continue
                ended[number] = _named(how, work.settings)
                del waiting[number]
                if work.progress and ended[number].error is None:
                    done = sum(each.error is None for each in ended.values())
                    work.progress(done, len(work.calls), work.names[number])
            if not ready:
                time.sleep(POLL)


def _is_done(future: PrefectFuture[Any]) -> bool:
    # Prefect's type of futures does not name what those of its runners have.
    return bool(future.wrapped_future.done())  # type: ignore[attr-defined]


def _ended(future: PrefectFuture[Any], runner: Running) -> CallEnd | None:
    """How a call has ended, without raising what it raised; None where its result went away with its worker."""
    # Prefect's type of futures does not name what those of its runners have.
    below = future.wrapped_future  # type: ignore[attr-defined]
    if below.cancelled():
        # Nobody here cancels a call: Dask does where its scheduler is gone.
        raise gone(getattr(runner.runner, "address", None) or "")
    try:
        if (error := below.exception(FETCHED)) is not None:
            return CallEnd(error=error)
        found = future.result(FETCHED, raise_on_failure=False)
    except TimeoutError:
        # Dask does it again, unless no worker is left to do it.
        return None
    return CallEnd(error=found) if isinstance(found, BaseException) else CallEnd(found)


def _named(how: CallEnd, settings: Settings) -> CallEnd:
    """How a call has ended, with the service that went away meanwhile in place of what its client says."""
    if how.error is None or isinstance(how.error, MENDABLE) or _is_lost(how.error):
        return how
    said = vanished(how.error, services_of(settings))
    if said is None:
        return how
    said.__cause__ = how.error
    return CallEnd(error=said)


def _is_lost(error: BaseException | None) -> bool:
    """Whether a call ended because its process did."""
    # Whoever raises Dask's own error has imported Dask, which takes most of a second.
    killed = getattr(sys.modules.get("distributed"), "KilledWorker", None)
    return isinstance(error, BrokenProcessPool) or (killed is not None and isinstance(error, killed))


def _may_pass(error: BaseException) -> bool:
    """Whether a call that failed so may come to something the second time."""
    if isinstance(error, FormulationError):
        return isinstance(error, SolverFailed) and not isinstance(error, SAME)
    return not isinstance(error, SAME)


def _raise_first(work: Work, ended: dict[int, CallEnd]) -> None:
    failed = [number for number in sorted(ended) if ended[number].error is not None]
    if not failed:
        return
    error, name = ended[failed[0]].error, work.names[failed[0]]
    assert error is not None
    others = f"; so did {_listed(work, failed[1:])}" if failed[1:] else ""
    if _is_lost(error):
        names = _listed(work, [number for number in failed if _is_lost(ended[number].error)])
        raise FlowError(
            f"{names}: the process at work was killed again and again, as a machine without memory does: lower workers "
            f"or images_per_class; what was finished is kept and the same command goes on"
        ) from error
    if isinstance(error, MENDABLE):
        raise type(error)(f"{name}: {one_line(error)}{others}") from error
    error.add_note(f"This was {name}{others}.")
    raise error


def _said(error: BaseException) -> str:
    return one_line(error) if isinstance(error, MENDABLE) else f"{type(error).__name__}: {one_line(error)}"


def _listed(work: Work, numbers: Sequence[int]) -> str:
    return ", ".join(work.names[number] for number in numbers)
