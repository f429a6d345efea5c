"""Ctrl-C and SIGTERM: every open run is ended as KILLED, whatever its thread is busy with."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from prefect.server.api.server import SubprocessASGIServer

from flows import tracking

INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C
GRACE = 3.0  # seconds for the flow to unwind by itself


@contextmanager
def runs_ended_on_interrupt(uri: str) -> Iterator[None]:
    """End the process with code 130 on SIGINT and SIGTERM, after its runs in the store at `uri`.

    Prefect waits for its pool, and a solver in it cannot be told to stop: so the process leaves without them.
    """
    unwound = threading.Event()
    leaver = threading.Thread(target=_leave, args=(uri, unwound))

    def begin(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        leaver.start()
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, begin) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        unwound.set()
        leaver.join()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(uri: str, unwound: threading.Event) -> None:
    try:
        tracking.end_open_runs(uri, "KILLED")
        unwound.wait(GRACE)
        # A pool thread may have opened another one since.
        tracking.end_open_runs(uri, "KILLED")
        SubprocessASGIServer().stop()
        print("interrupted: every open run has been ended as KILLED", file=sys.stderr, flush=True)
    finally:
        os._exit(INTERRUPTED)
