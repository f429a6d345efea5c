"""Random faults in the cache and in a finished run's files: none may change a score.

    python -m benchmarks.faults --faults 200 --seed 0

A network is trained, scored and pruned on scikit-learn's digits once. Then, for each fault in turn, one file or folder
is damaged at random (bits, cuts, empty files, swaps, links, pipes, folders, removed), one half in the cache,
the other in the artifacts of the finished run, and what reads it is done again:

- cache: the same work in new runs. A fault is *harmless* if nothing was said and nothing changed, *named and redone* if
  a line of the log names it and the work was done again.
- run: its solutions are checked, its network is sampled, solved and averaged again and pruned, without a cache. A fault
  is *harmless* if all of that succeeds, *refused* if it ends in one line; then the same work is done in new runs.

Scores, importance and masks are compared with the undisturbed ones to the last bit. The exit code is 1 if one differs,
or if anything but the flows' own errors comes out. A line per fault goes to the standard error.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.flow_commands import FORMER_DEFAULTS
from flows import stages, tracking
from flows.adapters import artifacts
from flows.adapters.library_settings import dataset_of
from flows.config.command_line import settings_of
from flows.config.settings import Settings
from flows.errors import FlowError
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.tracking import Run
from formulation import FormulationError
from tests.flows.small_run import store_in
from training import TrainingError

WORDS = {
    **FORMER_DEFAULTS,
    **{"model": "fc2", "epochs": "1", "images_per_class": "1", "scoring_sets": "1", "compare": "random", "draws": "1"},
}
OWN = (FlowError, FormulationError, TrainingError)
HARMLESS, NAMED, REFUSED, DIFFERENT, FOREIGN = "harmless", "named and redone", "refused", "DIFFERENT", "FOREIGN ERROR"
OUTCOMES = (HARMLESS, NAMED, REFUSED, DIFFERENT, FOREIGN)
CACHE, RUN = "cache", "run"
Found = dict[str, bytes]


@dataclass(frozen=True)
class Done:
    """The runs of the work, and what it found."""

    trained: Run
    scored: Run
    pruned: Run
    found: Found


@dataclass(frozen=True)
class Trial:
    """One fault: where it was, of which kind, in which file, how it ended, and what was said of it."""

    where: str
    kind: str
    path: str
    outcome: str
    said: str


class _Said(logging.Handler):
    """The warnings of a trial."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def flip(path: Path, other: Path, rng: random.Random) -> None:
    """Turn round one bit."""
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, other: Path, rng: random.Random) -> None:
    """Leave out the end."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))] if content else b"")


def empty(path: Path, other: Path, rng: random.Random) -> None:
    """Leave nothing in it."""
    path.write_bytes(b"")


def swap(path: Path, other: Path, rng: random.Random) -> None:
    """Exchange two files, or two folders."""
    if path != other:
        aside = path.with_name(f"{path.name}.swapped")
        path.rename(aside)
        other.rename(path)
        aside.rename(other)


def link(path: Path, other: Path, rng: random.Random) -> None:
    """A link to another one, to itself or to nowhere in its place."""
    _remove(path)
    path.symlink_to(rng.choice([other, path, path.with_name("nowhere")]))


def folder(path: Path, other: Path, rng: random.Random) -> None:
    """A folder in its place, empty or not."""
    _remove(path)
    path.mkdir()
    if rng.random() < 0.5:
        (path / path.name).write_bytes(b"something else")


def pipe(path: Path, other: Path, rng: random.Random) -> None:
    """A pipe in its place, which nobody writes to."""
    _remove(path)
    os.mkfifo(path)


def missing(path: Path, other: Path, rng: random.Random) -> None:
    """Nothing in its place."""
    _remove(path)


FAULTS: tuple[Callable[[Path, Path, random.Random], None], ...] = (flip, cut, empty, swap, link, folder, pipe, missing)
OF_FOLDERS = (swap, link, folder, pipe, missing)


def main(arguments: Sequence[str]) -> int:
    """Try the faults and print the table; 0 if no score differed and nothing foreign came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    chosen = parser.parse_args(arguments)
    tracking.settle_mlflow()
    with tempfile.TemporaryDirectory() as place:
        trials = []
        for trial in tried(Path(place), chosen.faults, chosen.seed):
            trials.append(trial)
            print(len(trials), trial, file=sys.stderr, flush=True)
    print(table(trials))
    return 1 if any(trial.outcome in (DIFFERENT, FOREIGN) for trial in trials) else 0


def tried(place: Path, faults: int, seed: int) -> Iterator[Trial]:
    """Faults one after another, in the cache and in the finished run by turns; what became of each."""
    cache, kept = place / "cache", place / "kept"
    settings = settings_of({**WORDS, "cache": str(cache), "tracking_uri": store_in(place)})
    first = worked(settings)
    # What the check and the second scoring read of the run lies beside the cache's records.
    shutil.copytree(cache, kept / CACHE)
    shutil.copytree(place / "mlruns", kept / "mlruns")
    for number in range(faults):
        rng = random.Random(f"{seed} {number}")
        where = (CACHE, RUN)[number % 2]
        damaged = cache if where == CACHE else place / "mlruns"
        kind, path = _damage(damaged, rng)
        with _listened() as said:
            outcome, reason = _ended(settings, first, where)
        if where == CACHE and outcome == HARMLESS and said.lines:
            outcome = NAMED
        name = str(path.relative_to(damaged))
        yield Trial(where, kind, name, outcome, " / ".join([*said.lines, *filter(None, [reason])]))
        for each, pristine in ((cache, kept / CACHE), (place / "mlruns", kept / "mlruns")):
            shutil.rmtree(each)
            shutil.copytree(pristine, each)


def worked(settings: Settings) -> Done:
    """Train, score and prune in new runs, with the settings' cache, and what was found."""
    with _top(settings) as top:
        with stage_runs.stage_run("train", settings, top) as trained:
            tasks.train.fn(settings, trained)
        with stage_runs.stage_run("score", settings, top, {"train": trained}) as scored:
            tasks.sample.fn(settings, scored, trained, True)
            programs = tasks.lay_out.fn(settings, scored, trained, settings.scoring_sets)
            solved = [tasks.score_set.fn(settings, scored, trained, None, program) for program in programs]
            tasks.average.fn(settings, scored, solved)
        pruned = _pruned(settings, top, scored, trained)
    found = {f"score/{name}": values for name, values in _arrays(artifacts.logged_scores(scored)).items()}
    found |= {f"importance/{name}": values for name, values in _arrays(artifacts.logged_importance(scored)).items()}
    return Done(trained, scored, pruned, found | _masks(pruned))


def table(trials: Sequence[Trial]) -> str:
    """How the faults ended, by place and kind, as a table."""
    lines = ["| where | fault | tried | " + " | ".join(OUTCOMES) + " |", "|---|---|---|" + "---|" * len(OUTCOMES)]
    for where in (CACHE, RUN):
        for kind in [*(each.__name__ for each in FAULTS), "all"]:
            counted = Counter(each.outcome for each in trials if each.where == where and kind in (each.kind, "all"))
            row = [where, kind, sum(counted.values()), *(counted[outcome] for outcome in OUTCOMES)]
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines)


def _damage(root: Path, rng: random.Random) -> tuple[str, Path]:
    """Do one fault somewhere below a folder; its kind and where."""
    fault = rng.choice(FAULTS)
    everything = sorted(path for path in root.rglob("*") if "images" not in path.parts)
    files = [path for path in everything if path.is_file()]
    # Folders of records and of files of runs, but not those of all runs: a store without any is not damaged but gone.
    folders = [path for path in everything if path.is_dir() and any(path.glob("*")) and _is_of_one(root, path)]
    kind = folders if fault in OF_FOLDERS and rng.random() < 0.3 else files
    path, other = rng.choice(kind), rng.choice(kind)
    if other in path.parents or path in other.parents:
        other = path
    fault(path, other, rng)
    return fault.__name__, path


def _is_of_one(root: Path, path: Path) -> bool:
    return root.name == CACHE or "artifacts" in path.relative_to(root).parts


def _ended(settings: Settings, first: Done, where: str) -> tuple[str, str]:
    """Read what was damaged; how that ended, and the error if there was one."""
    try:
        if where == CACHE:
            return (HARMLESS if worked(settings).found == first.found else DIFFERENT), ""
        return (HARMLESS if _read(settings, first) else DIFFERENT), ""
    except OWN as error:
        again = worked(settings).found
        return (REFUSED if again == first.found else DIFFERENT), f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - what else comes out is what is looked for
        return FOREIGN, f"{type(error).__name__}: {error}"


def _read(settings: Settings, first: Done) -> bool:
    """Check a finished run, score its network again and prune by it, without a cache; whether it is all the same."""
    alone = settings.model_copy(update={"cache": "none"})
    loaded = artifacts.logged_settings(first.scored)
    with _top(alone) as top:
        with stage_runs.stage_run("check", alone, top, {"score": first.scored}) as run:
            stages.check_solutions(loaded, first.scored, first.trained, on_part=tracking.teller(run))
        with stage_runs.stage_run("score", alone, top, {"train": first.trained}) as run:
            tasks.sample.fn(alone, run, first.trained, True)
            programs = tasks.lay_out.fn(alone, run, first.trained, 1)
            solved = [tasks.score_set.fn(alone, run, first.trained, None, program) for program in programs]
            tasks.average.fn(alone, run, solved)
            scores = {f"score/{name}": values for name, values in _arrays(artifacts.logged_scores(run)).items()}
        found = scores | _masks(_pruned(alone, top, first.scored, first.trained)) | _masks(first.pruned)
        artifacts.logged_network(first.pruned, alone, dataset_of(alone))
    return found.items() <= first.found.items()


def _pruned(settings: Settings, top: Run, scored: Run, trained: Run) -> Run:
    with stage_runs.stage_run("prune", settings, top, {"train": trained, "score": scored}) as run:
        tasks.prune.fn(settings, run, scored, trained, None)
    return run


def _masks(run: Run) -> Found:
    return {f"mask/{name}": values for name, values in _arrays(artifacts.logged_masks(run)).items()}


def _arrays(values: object) -> Found:
    assert isinstance(values, dict)
    return {name: np.ascontiguousarray(each).tobytes() for name, each in values.items()}


@contextmanager
def _top(settings: Settings) -> Iterator[Run]:
    store = tracking.open_store(settings.tracking_uri, settings.experiment)
    with tracking.open_flow_run(store, "faults", {}) as top:
        artifacts.log_settings(tracking.telling_at_once(top), settings)
        yield top


@contextmanager
def _listened() -> Iterator[_Said]:
    said, logger = _Said(), logging.getLogger("flows")
    logger.setLevel(logging.WARNING)
    logger.addHandler(said)
    try:
        yield said
    finally:
        logger.removeHandler(said)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
