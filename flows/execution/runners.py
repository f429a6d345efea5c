"""Task runners: threads, processes or Dask, their number of workers, and how each worker process begins."""

import copy
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, Self

import torch
from prefect import Task
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from threadpoolctl import threadpool_limits

from flows import tracking
from flows.adapters import cores
from flows.config import Settings
from flows.execution import cluster
from flows.execution.log_lines import send_log_lines, write_log_lines
from flows.prefect_server import leave_out_proxies, server_address

LOG = logging.getLogger(__name__)
FORKED = "forkserver"
IMPORTED = ["flows.execution.tasks", "dask.array", "linopy"]  # by the process that those of a pool are forked from


def workers_of(settings: Settings) -> int:
    """How many programs are solved at the same time: as many as asked for, but one per core and at least one."""
    return max(1, min(settings.workers, len(cores()) // settings.threads))


def require_runner(settings: Settings, uri: str) -> None:
    """Whatever is against the task runner of the settings, before any work; raises SettingsError.

    `uri` is the tracking store that workers write to. A number of workers that is too high is lowered, and the log
    says so.
    """
    if settings.task_runner == "dask" and settings.dask_address:
        cluster.require_cluster(settings, uri)
        return
    if (workers := workers_of(settings)) < settings.workers:
        LOG.info(
            "workers  %d instead of %d: this machine has %d cores, and each program takes threads=%d",
            *(workers, settings.workers, len(cores()), settings.threads),
        )


class ForkedPoolTaskRunner(ProcessPoolTaskRunner):
    """Prefect's pool of processes, forked from one that has done their imports, where the system has such a server.

    Prefect itself starts every process from nothing: seconds of imports each, and their memory as often.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        # Prefect lets nobody choose; its executor starts no process before its first call.
        executor = self._executor
        if executor is not None and FORKED in multiprocessing.get_all_start_methods():
            context = multiprocessing.get_context(FORKED)
            context.set_forkserver_preload(IMPORTED)
            executor._mp_context = context
        return self


@dataclass(frozen=True)
class Running:
    """A task runner that is at work.

    Attributes:
        runner: Prefect's.
        server: the address of the Prefect server, which workers must not start again.
        look: how many calls it may be given at a time; raises FlowError where no worker is left to wait for.
    """

    runner: TaskRunner[Any]
    server: str
    look: Callable[[], int]

    def submit(self, task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        """Begin a call as soon as there is a worker for it."""
        # Only here: what the flow itself tells its server goes on as it began.
        with temporary_settings({PREFECT_API_URL: self.server}) if self.server else nullcontext():
            future: PrefectFuture[Any] = self.runner.submit(task, parameters)
        return future


@contextmanager
def running(settings: Settings, calls: int) -> Iterator[Running]:
    """The task runner of the settings for so many calls."""
    workers = max(1, min(workers_of(settings), calls))
    # Pools take all calls at once, and begin them in their order; what befalls their workers ends their calls.
    match settings.task_runner:
        case "threads":
            with ThreadPoolTaskRunner[Any](max_workers=workers) as threads:
                yield Running(threads, "", lambda: calls)
        case "processes":
            with ForkedPoolTaskRunner(max_workers=workers, initializer=begin_worker) as processes:
                yield Running(processes, server_address(), lambda: calls)
        case "dask" if settings.dask_address:
            with _dask(settings.dask_address) as opened:
                yield opened
        case "dask":
            with cluster.local_cluster(workers) as local, _dask(local.scheduler_address) as opened:
                yield opened


def for_workers(task: Task[..., Any], settings: Settings) -> Task[..., Any]:
    """The task as a worker does it, in whatever process: with its threads pinned and its log lines written."""
    threads, elsewhere, sends = settings.threads, settings.task_runner != "threads", _sends_lines()

    @wraps(task.fn)
    def work(*given: Any, **named: Any) -> Any:
        pin_threads(threads)
        if elsewhere:
            leave_out_proxies()
            begin_lines(sends)
        return task.fn(*given, **named)

    copied = copy.copy(task)
    copied.fn = work
    return copied


def placed(settings: Settings, call: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments as a process that was started elsewhere understands them."""
    if settings.task_runner == "threads":
        return dict(call)
    return {
        name: cluster.placed_on_cluster(each) if isinstance(each, Settings) else each for name, each in call.items()
    }


def pin_threads(threads: int) -> None:
    """Let BLAS and torch use this many threads in this process: with another number sums have other last bits."""
    # Never put back after a task: another thread of this process is at its own meanwhile.
    threadpool_limits(threads, user_api="blas")
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def begin_lines(sends: bool) -> None:
    """Write the flows' log lines in a worker's process, and to the Prefect server as well where the flow does."""
    if not logging.getLogger("flows").handlers:
        tracking.settle_mlflow()
        send_log_lines() if sends else write_log_lines()


def _sends_lines() -> bool:
    return any(isinstance(handler, APILogHandler) for handler in logging.getLogger("flows").handlers)


def begin_worker() -> None:
    """What a process of a pool begins with: it leaves Ctrl-C to the flow, and ends when the flow's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's process waits for calls for ever when the one that makes them has been killed.
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _dask(address: str) -> Iterator[Running]:
    from prefect_dask.task_runners import DaskTaskRunner  # here, because few flows need it

    cluster.quieten_dask()
    options = {"timeout": cluster.ANSWER}
    # Given more calls than its workers have threads, Dask puts some behind one that takes long while others are idle.
    with DaskTaskRunner(address=address, client_kwargs=options) as runner:
        yield Running(runner, server_address(), cluster.watched(runner.client, address))
