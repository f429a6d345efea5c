"""Prefect's API in a process of its own, at a socket that its parent has opened; it ends when its parent does.

    python -P flows/prefect_process.py <number of the socket>

Run by its path, not as a module: from wherever a flow is started, and without what the flows import.
"""

import os
import signal
import socket
import sys
import time
from threading import Thread

import uvicorn

LEAVING = 2  # seconds that open connections have when it ends
PATIENCE = 5  # seconds after which it goes, whatever still holds it


def answer_at_socket(number: int) -> None:
    """Answer at the socket of this number until the standard input ends, as it does with the parent's process."""
    Thread(target=_end_with_parent, daemon=True).start()
    # Here, because it takes seconds, and the parent may be gone by then.
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=LEAVING)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=number)])


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock a thread must not hold while Python ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    answer_at_socket(int(sys.argv[1]))
