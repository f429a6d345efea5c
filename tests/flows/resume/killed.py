"""`python -m flows ...` in which a named point kills as a power cut would, and what is done is counted."""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.context import refresh_global_settings_context

# module (and class), function, at which call in this process, before or after it
POINTS = {
    "opening_a_run": ("mlflow", "start_run", 2, "after"),
    "training": ("training.loop", "_validate", 2, "before"),
    "before_a_record_is_sealed": ("flows.records.record:Draft", "seal", 1, "before"),
    "between_two_files_of_a_record": ("flows.records.record", "_to_disk", 2, "before"),
    "sealed_but_not_told": ("flows.tracking", "publish", 1, "before"),
    "between_two_things_told": ("mlflow:MlflowClient", "log_artifact", 3, "after"),
    "ending_a_run": ("mlflow", "end_run", 1, "before"),
    "sampling": ("training", "draw_sets", 1, "after"),
    "solving": ("formulation.search:Search", "learn", 5, "after"),
    "checking": ("formulation", "confirm", 2, "before"),
    "pruning": ("training", "prune", 1, "after"),
    "retraining": ("training.loop", "_validate", 1, "after"),
    "logging_the_model": ("mlflow.pytorch", "save_model", 1, "after"),
    "compacting": ("training", "costs", 1, "before"),
    "summing_up": ("flows.stages.summary", "log_mask_pictures", 1, "after"),
}
COUNTED = (("training", "fit"), ("formulation", "propose"), ("training", "draw_sets"), ("training", "compact"))


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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.flows.resume.killed", "flows.launch", "mlflow.pytorch", "mlflow.models"])
    process = context.Process(target=_main, args=(trouble, place, words, environment))
    process.start()
    process.join(240)
    process.kill()
    return process.exitcode


def _main(trouble: Trouble, place: Path, words: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    # Read when the process was forked from had Prefect imported: else every command starts a server of its own.
    refresh_global_settings_context()
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    print(f"--- {trouble.point}", flush=True)
    counts = place / "counts"
    for module, name in COUNTED:
        _wrap(importlib.import_module(module), name, after=lambda name=name: _note(counts, name))
    if trouble.point != "none":
        where, name, call, when = POINTS[trouble.point]
        module, _, inside = where.partition(":")
        holder = importlib.import_module(module)
        killer = _killer(call, trouble.group, place / "killed")
        _wrap(getattr(holder, inside) if inside else holder, name, **{when: killer})
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


def _note(counts: Path, name: str) -> None:
    with counts.open("a") as file:
        file.write(f"{name}\n")
