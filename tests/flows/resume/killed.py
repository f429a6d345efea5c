"""`python -m flows ...` in which a named point kills as a power cut would, and what is done is counted."""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import mlflow.pytorch
from prefect.context import refresh_global_settings_context

import formulation
import training
from flows import tracking
from flows.cache import record
from flows.stages.summaries import summary
from formulation.solve import search
from training.fitting import loop


def _named(holder: Any, function: Callable[..., Any]) -> tuple[Any, str]:
    """The name under which a module or class holds a function: it is looked up there by whoever calls it."""
    assert getattr(holder, function.__name__) is function, f"{holder} does not hold {function.__name__}"
    return holder, function.__name__


# holder and function, at which call in this process, before or after it
POINTS = {
    "opening_a_run": (_named(mlflow, mlflow.start_run), 2, "after"),
    "training": (_named(loop, loop.validate_epoch), 2, "before"),
    "before_a_record_is_sealed": (_named(record.Draft, record.Draft.seal), 1, "before"),
    "between_two_files_of_a_record": (_named(record, record.force_to_disk), 2, "before"),
    "sealed_but_not_told": (_named(tracking, tracking.publish), 1, "before"),
    "between_two_things_told": (_named(mlflow.MlflowClient, mlflow.MlflowClient.log_artifact), 3, "after"),
    "ending_a_run": (_named(mlflow, mlflow.end_run), 1, "before"),
    "sampling": (_named(training, training.draw_sets), 1, "after"),
    "solving": (_named(search.Search, search.Search.learn), 5, "after"),
    "checking": (_named(formulation, formulation.confirm), 2, "before"),
    "pruning": (_named(training, training.prune), 1, "after"),
    "retraining": (_named(loop, loop.validate_epoch), 1, "after"),
    "compacting": (_named(training, training.costs), 1, "before"),
    "logging_the_model": (_named(mlflow.pytorch, mlflow.pytorch.save_model), 1, "after"),
    "summing_up": (_named(summary, summary.log_mask_pictures), 1, "after"),
}
COUNTED = (
    _named(training, training.fit),
    _named(formulation, formulation.propose),
    _named(training, training.draw_sets),
    _named(training, training.compact),
)


@dataclass(frozen=True)
class Trouble:
    """What befalls a command.

    Attributes:
        point: where something is killed.
        group: the group of processes that is; 0: the command itself.
        largest: the size in bytes above which it can write no file, as on a full disk.
    """

    point: str = "none"
    group: int = 0
    largest: int | None = None


def run(trouble: Trouble, place: Path, words: list[str], environment: dict[str, str]) -> int | None:
    """The exit code of a flow's command line, in a process of its own with the point in place; minus a signal's number.

    The process is forked from one that has imported what takes seconds, and nothing else. It writes its log and its
    counts to the place.
    """
    process = start(trouble, place, words, environment)
    process.join(240)
    process.kill()
    return process.exitcode


def start(trouble: Trouble, place: Path, words: list[str], environment: dict[str, str]) -> BaseProcess:
    """The process of :func:`run`, started, in a session of its own as one of a terminal is."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.flows.resume.warm"])
    process = context.Process(target=_main, args=(trouble, place, words, environment))
    process.start()
    return process


def _main(trouble: Trouble, place: Path, words: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    # Else a pool's processes would be forked beside this one, outside the command's session.
    importlib.reload(forkserver)
    os.environ.update(environment)
    # Read when the process was forked from had Prefect imported: else every command starts a server of its own.
    refresh_global_settings_context()
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    print(f"--- {trouble.point}", flush=True)
    counts = place / "counts"
    for holder, name in COUNTED:
        _wrap(holder, name, after=partial(_note, counts, name))
    if trouble.point != "none":
        (holder, name), call, when = POINTS[trouble.point]
        killer = _killer(call, trouble.group, place / "killed")
        _wrap(holder, name, **{when: killer})
    if trouble.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (trouble.largest, trouble.largest))
    from flows.__main__ import main as command_line

    sys.exit(command_line(words))


def _wrap(
    holder: Any, name: str, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> None:
    function = getattr(holder, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        before()
        result = function(*given, **named)
        after()
        return result

    setattr(holder, name, wrapped)


def _killer(call: int, group: int, note: Path) -> Callable[[], None]:
    calls = 0

    def kill() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            note.touch()
            os.killpg(group, signal.SIGKILL) if group else os.kill(os.getpid(), signal.SIGKILL)

    return kill


def work_done(place: Path) -> Counter[str]:
    """How often each counted function was called by the commands of a place."""
    return Counter((place / "counts").read_text().split())


def _note(counts: Path, name: str) -> None:
    with counts.open("a") as file:
        file.write(f"{name}\n")
