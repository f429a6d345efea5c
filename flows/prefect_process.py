"""Prefect's API in a process of its own, at a socket that its parent has opened; it ends when its parent does.

    python -P flows/prefect_process.py <number of the socket>

Run by its path, not as a module: from wherever a flow is started, and without what the flows import.
"""

import os
import signal
import socket
import sys
from threading import Thread

import uvicorn

LEAVING = 2  # seconds that open connections have when it ends


def answer_at_socket(number: int) -> None:
    """Answer at the socket of this number until the standard input ends, as it does with the parent's process."""
    Thread(target=_end_with_parent, daemon=True).start()
    # Here, because it takes seconds, and the parent may be gone by then.
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=LEAVING)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=number)])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    answer_at_socket(int(sys.argv[1]))
