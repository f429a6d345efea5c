"""Ctrl-C and SIGTERM: every open run is ended as KILLED, whatever its thread is busy with."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from types import FrameType
from typing import NoReturn

import psutil
from prefect.exceptions import TerminationSignal

from flows import tracking
from flows.own_server import end_own_server

INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C
ENDING = 5.0  # seconds that killed processes may take to end
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once(code: int) -> NoReturn:
    """End the process without waiting for threads: Prefect's try a server that is gone for more than a minute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _nothing() -> None:
    """What is said last where nobody listens."""


def run_interruptibly(
    work: Callable[[], str],
    uri: str,
    signals: Sequence[signal.Signals] = SIGNALS,
    last_word: Callable[[], None] = _nothing,
) -> str:
    """The result of `work`; on one of `signals` end the runs in the store at `uri`, and the process with code 130.

    `last_word` is called once the runs have been ended. SIGTERM may be left to Prefect, whose own handler raises
    TerminationSignal. The work runs in a thread of its own, because a signal raises its exception in the main one: in
    the middle of a commit that leaves the database locked. Nor is the thread waited for: a solver in it cannot be told
    to stop.
    """
    previous = {number: signal.signal(number, _interrupt) for number in signals}
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flow")
    try:
        # With the context, in which Prefect keeps the flow run that the work belongs to.
        return worker.submit(copy_context().run, work).result()
    except (KeyboardInterrupt, TerminationSignal):
        _leave(uri, last_word)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        worker.shutdown()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)


def _leave(uri: str, last_word: Callable[[], None]) -> NoReturn:
    _ignore_signals()
    tracking.hold_runs()
    try:
        tracking.end_open_runs(uri, "KILLED")
        _kill_workers()
        end_own_server()
        # Another thread, or a worker before it was killed, may have opened a run since.
        tracking.end_open_runs(uri, "KILLED")
        print("interrupted: every open run has been ended as KILLED", file=sys.stderr, flush=True)
        last_word()
    finally:
        # Last: a thread that sees its solver die ends its run as FAILED.
        _kill_all(psutil.Process().children(recursive=True))
        os._exit(INTERRUPTED)


def _kill_workers() -> None:
    """Kill the processes of a pool or a Dask cluster of this process with the solvers that they have started."""
    workers = multiprocessing.active_children()
    _kill_all([each for worker in workers if worker.pid for each in _with_those_below(worker.pid)])
    # Not joined: the thread of the pool does that too. A run may be ended once its process has.
    multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=ENDING)


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _with_those_below(number: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(number)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
