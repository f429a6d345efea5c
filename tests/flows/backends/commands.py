"""Flows as commands in processes of their own, several at a time, with what each of them wrote."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from prefect.settings import PREFECT_API_URL

from tests.flows.resume.killed import Trouble, run
from tests.flows.small_run import SMALL

# Nothing here depends on how large a network is.
QUICK = SMALL | {"model": "fc2", "export": "none", "epochs": "2", "workers": "1"}
FLOWS_AT_ONCE = 2
NO_TROUBLE = Trouble()


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote to the terminal."""

    code: int | None
    log: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error: `."""
        return [line for line in self.log.splitlines() if line.startswith("error: ")]

    def is_refused_in_one_line(self) -> bool:
        """Whether it ended as for an error that its caller can mend: code 2, one line, no traceback."""
        return self.code == 2 and len(self.errors) == 1 and "Traceback" not in self.log


def command(
    flow: str, place: Path, store: str, cache: Path | str, trouble: Trouble = NO_TROUBLE, **words: str
) -> Ended:
    """Run a flow with these parameters, writing its log and its counts to the folder `place`."""
    place.mkdir(parents=True, exist_ok=True)
    environment = {
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "OMP_NUM_THREADS": "1",
        "CRITICAL_NEURONS_CACHE": str(cache),
        "MLFLOW_TRACKING_URI": store,
    }
    given = [word for name, value in words.items() for word in (f"--{name}", value)]
    before = (place / "log").stat().st_size if (place / "log").exists() else 0
    code = run(trouble, place, [flow, *given], environment)
    return Ended(code, (place / "log").read_text()[before:])


def two_at_a_time(place: Path, store: str, cache: Path, seeds: Sequence[str]) -> list[Ended]:
    """Run main once for every seed, two at a time; the same seed twice is the very same command."""
    with ThreadPoolExecutor(FLOWS_AT_ONCE) as pool:
        # With the context, in which Prefect keeps the address of the tests' server.
        waiting = [
            pool.submit(copy_context().run, partial(command, "main", place / f"{number:02}", store, cache, **each))
            for number, each in enumerate(QUICK | {"seed": seed} for seed in seeds)
        ]
        return [each.result() for each in waiting]
