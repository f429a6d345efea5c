"""Small tasks that put down what happens to them, for any task runner."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from httpx import ConnectError
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.config.command_line import settings_of
from flows.config.settings import Settings
from flows.errors import SettingsError
from formulation import SolverFailed

Words = dict[str, str]


def settings(place: Path, **words: str) -> Settings:
    """Settings whose folders lie in the test's."""
    return settings_of({"cache": str(place / "cache"), **words})


@task(name="trial", cache_policy=NO_CACHE)
def rest(settings: Settings, place: str, number: int, seconds: float) -> int:
    """Put down when a call began and ended, and in which process; ten times its number."""
    start = time.time()
    time.sleep(seconds)
    write(Path(place), number, start)
    return 10 * number


@task(name="fails", cache_policy=NO_CACHE)
def fail(settings: Settings, place: str, number: int, times: int, kind: str) -> int:
    """Fail so many times in the given way, and then do as `rest` does."""
    start = time.time()
    write(Path(place), number, start)
    tries = len([each for each in intervals(Path(place)) if each[0] == number])
    if tries <= times:
        if kind == "kill":
            # After the others have begun: what the same pool is at goes with it.
            time.sleep(0.5)
            os.kill(os.getpid(), 9)
        raise ERRORS[kind](f"try {tries} of call {number}")
    return 10 * number


ERRORS: dict[str, Callable[[str], Exception]] = {
    "solver": SolverFailed,
    "settings": SettingsError,
    "other": ArithmeticError,
    "server": ConnectError,
}


def write(place: Path, number: int, start: float) -> None:
    """Put down one call that ends now."""
    line = json.dumps([number, start, time.time(), os.getpid()])
    with (place / "calls").open("a") as file:
        file.write(f"{line}\n")


def intervals(place: Path) -> list[tuple[int, float, float, int]]:
    """What has been put down: number, beginning, end and process of every try."""
    lines = (place / "calls").read_text().splitlines() if (place / "calls").exists() else []
    return [tuple(json.loads(line)) for line in lines]


def at_once(spans: list[tuple[float, float]]) -> int:
    """How many of the spans of time lie over each other at most."""
    steps = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
