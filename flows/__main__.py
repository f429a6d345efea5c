"""`python -m flows <flow> --name value ...`: the command line of every flow, installed as `critical-neurons`."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from flows.checkout import set_prefect_defaults, usual_store
from flows.errors import ArtifactError, FlowError
from naming import __version__, missing_extra

HELP = ("-h", "--help")
STORE = "MLFLOW_TRACKING_URI"
VERSION, COMPLETION = "--version", "--completion"
INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C


def console() -> None:
    """Run what the command line names, and end the process with the code of :func:`main`."""
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def main(arguments: Sequence[str]) -> int:
    """Run the named flow; 0, 1 for failing tests, 2 for an error the caller can mend, 130 after Ctrl-C.

    3 where `check` finds that every solution holds and one is not proved optimal.
    """
    if arguments and arguments[0] == VERSION:
        print(__version__)
        return 0
    try:
        return _answer(arguments)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if not (line := missing_extra(error.name)):
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2


def _answer(arguments: Sequence[str]) -> int:
    # Here, because the settings stand on pydantic, which the libraries alone do without.
    from flows.config import (
        SERVE,
        completion_of,
        entry_point,
        help_of,
        overview,
        require_agreeing_words,
        settings_of,
        words_of,
    )

    if not arguments or arguments[0] in HELP:
        print(overview())
        return 0
    if arguments[0] == COMPLETION:
        print(completion_of(arguments[1:]))
        return 0
    point = entry_point(arguments[0])
    if any(word in HELP for word in arguments[1:]):
        print(help_of(point))
        return 0
    words = words_of(point, arguments[1:])
    settings = settings_of(words)
    # torch, MLflow and Prefect take seconds to import: help and a wrong parameter need none of them.
    if point.name == "test":
        from flows.suite import run_suite

        return run_suite(settings)
    # `mlflow run` passes every parameter, chosen or not.
    require_agreeing_words(point, words, all_given="MLFLOW_RUN_ID" in os.environ)
    if point.after and not settings.tracking_uri and not os.environ.get(STORE) and not usual_store().exists():
        raise ArtifactError(
            f"run_id={settings.run_id}: there is no tracking store {usual_store()}; name it by tracking_uri"
        )
    if point is not SERVE and "torch" not in sys.modules:
        print(time.strftime("%H:%M:%S"), f"{point.name:<8} loading torch, MLflow and Prefect", flush=True)
    set_prefect_defaults()
    with _leaving_at_once():
        from flows.own_server import begin_own_server
        from flows.prefect_server import reach_server, require_server

        if point is SERVE:
            require_server()
        reach_server()
        if point is SERVE:
            from flows.serving import serve_flows

            return serve_flows()
        # Before what takes seconds to import: the server takes seconds to start.
        begin_own_server()
        from flows.launch import launch

        return launch(point, words)


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """End the process by Ctrl-C or SIGTERM, without a word from what is being imported: no run is open yet.

    Whoever opens runs takes the signals itself.
    """
    previous = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    console()
