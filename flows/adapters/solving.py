"""Solving a program once: what the solver found is kept before it is checked, and checked whenever it is used."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import formulation
import training
from flows.adapters.core_locks import free_core
from flows.adapters.library_settings import score_settings_of
from flows.adapters.programs import ProgramInputs
from flows.cache import FILES, Cache, cache_of, code_digest, key_of
from flows.config import Settings
from formulation import CheckFailed, InvalidSolution, Round, ScoreSettings, Solution, SolverCrashed

LOG = logging.getLogger(__name__)
TASK, FOLDER = "solve", "solution"
OF_BLOCKS = ("held", "pixel_range")
SOLVERS = ("linopy", "highspy", "pyscipopt", "numpy", "scipy")


def solved(settings: Settings, instance: ProgramInputs, progress: Callable[[Round], None] | None = None) -> Solution:
    """The checked solution of a program, from the settings' cache where the same has been solved before.

    `progress` is told the rounds either way. Raises what `formulation.score` does; where the solver of an integer
    program crashes, the relaxation is kept as if it had been asked for, so that `relax=true` finds it.
    """
    about, network = _about(instance), instance.network
    images, labels = instance.images, instance.labels
    key = key_of(about)
    with cache_of(settings) as cache, cache.locked(TASK, key):
        if record := cache.find(TASK, key):
            try:
                solution = Solution.load(record.files / FOLDER)
                require_asked(solution, instance)
                confirmed = formulation.confirm(network, images, labels, solution)
            except (InvalidSolution, CheckFailed) as error:
                cache.reject(TASK, key, f"{record.folder / FILES / FOLDER} is not the solution asked for ({error})")
            else:
                if progress:
                    for each in solution.rounds:
                        progress(each)
                return confirmed
        start = time.monotonic()
        try:
            # The time limit is for the solver and the check: it begins once there is a core for them.
            with free_core(settings.threads):
                start = time.monotonic()
                solution = formulation.propose(network, images, labels, instance.settings, progress=progress)
        except SolverCrashed as crash:
            if isinstance(crash.relaxation, Solution):
                _keep_relaxation(cache, instance, crash.relaxation, time.monotonic() - start)
            raise
        _keep(cache, about, solution, time.monotonic() - start)
    return formulation.confirm(network, images, labels, solution)


def require_asked(solution: Solution, instance: ProgramInputs) -> None:
    """Raise InvalidSolution for a solution whose certificate names other settings than a program's own."""
    if names := differing_settings(instance.settings, solution):
        raise InvalidSolution(f"it was made with another {', '.join(names)}")


def solution_fault(settings: Settings, files: Path) -> str:
    """What the kept files of a scoring set have against the settings that ask for them; empty where they fit.

    A block's program has a pixel range and held layers of its own, which its network says.
    """
    try:
        solution = Solution.load(files / FOLDER)
    except InvalidSolution as error:
        return str(error)
    names = [name for name in differing_settings(score_settings_of(settings), solution) if name not in OF_BLOCKS]
    return f"{files / FOLDER} was made with another {', '.join(names)}" if names else ""


def differing_settings(settings: ScoreSettings, solution: Solution) -> list[str]:
    """The names of the settings that a solution's certificate has otherwise.

    One that the certificate does not have was added later: its default says what was done before there was a choice.
    """
    usual, wanted = (json.loads(json.dumps(each.to_dict())) for each in (ScoreSettings(), settings))
    stated = usual | dict(solution.certificate.settings)
    return sorted(name for name in stated if name not in wanted or wanted[name] != stated[name])


def _about(instance: ProgramInputs) -> dict[str, object]:
    """Everything that the solution of a program depends on."""
    return {
        "settings": instance.settings.to_dict(),
        "network": str(instance.network),
        "weights": training.model_digest(instance.network),
        "images": training.tensors_digest(instance.images, instance.labels),
        "code": code_digest("formulation"),
        "libraries": {name: version(name) for name in SOLVERS},
    }


def _keep(cache: Cache, about: dict[str, object], solution: Solution, seconds: float) -> None:
    key = key_of(about)
    draft = cache.draft(TASK, key)
    solution.save(draft.files / FOLDER)
    cache.seal(draft, TASK, key, about, seconds)


def _keep_relaxation(cache: Cache, instance: ProgramInputs, relaxation: Solution, seconds: float) -> None:
    """Keep what survived a crash under the key of the relaxed program, unless that has been solved already."""
    relaxed = replace(instance, settings=ScoreSettings.from_dict(relaxation.certificate.settings))
    about = _about(relaxed)
    with cache.locked(TASK, key_of(about)):
        if not cache.find(TASK, key_of(about)):
            _keep(cache, about, relaxation, seconds)
