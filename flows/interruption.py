"""Ctrl-C and SIGTERM: every open run is ended as KILLED, whatever its thread is busy with."""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from types import FrameType
from typing import NoReturn

from prefect.server.api.server import SubprocessASGIServer

from flows import tracking

INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_interruptibly(work: Callable[[], str], uri: str) -> str:
    """The result of `work`; on SIGINT or SIGTERM end the runs in the store at `uri`, and the process with code 130.

    The work runs in a thread of its own, because a signal raises its exception in the main one: in the middle of a
    commit that leaves the database locked. Nor is the thread waited for: a solver in it cannot be told to stop.
    """
    previous = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flow")
    try:
        # With the context, in which Prefect keeps the flow run that the work belongs to.
        return worker.submit(copy_context().run, work).result()
    except KeyboardInterrupt:
        _leave(uri)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        worker.shutdown()


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave(uri: str) -> NoReturn:
    try:
        tracking.end_open_runs(uri, "KILLED")
        if server := SubprocessASGIServer().server_process:
            server.terminate()
        # Another thread may have opened a run since.
        tracking.end_open_runs(uri, "KILLED")
        print("interrupted: every open run has been ended as KILLED", file=sys.stderr, flush=True)
    finally:
        # Last: a thread that sees its solver die ends its run as FAILED.
        _kill_children()
        os._exit(INTERRUPTED)


def _kill_children() -> None:
    """Kill the solvers that are programs of their own; elsewhere than on Linux they end by their time limit."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
