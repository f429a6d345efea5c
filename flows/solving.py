"""Solving a program once: what the solver found is kept before it is checked, and checked whenever it is used."""

import logging
import time
from collections.abc import Callable
from importlib.metadata import version

import formulation
import training
from flows.caching import cache_of, code_digest, key_of
from flows.programs import Instance
from flows.settings import Settings
from flows.slots import free_core
from formulation import InvalidSolution, Round, Solution

LOG = logging.getLogger(__name__)
TASK, FOLDER = "solve", "solution"
SOLVERS = ("linopy", "highspy", "pyscipopt", "numpy", "scipy")


def solved(settings: Settings, instance: Instance, progress: Callable[[Round], None] | None = None) -> Solution:
    """The checked solution of a program, from the settings' cache where the same has been solved before.

    `progress` is told the rounds either way. Raises what `formulation.score` does.
    """
    network, images, labels = instance.network, instance.images, instance.labels
    about = {
        "settings": instance.settings.to_dict(),
        "network": str(network),
        "weights": training.model_digest(network),
        "images": training.tensors_digest(images, labels),
        "code": code_digest("formulation"),
        "libraries": {name: version(name) for name in SOLVERS},
    }
    key = key_of(about)
    with cache_of(settings) as cache, cache.locked(TASK, key):
        if record := cache.find(TASK, key):
            try:
                solution = Solution.load(record.files / FOLDER)
            except InvalidSolution as error:
                LOG.warning("cache    a solution cannot be read, and is found again: %s", error)
            else:
                if progress:
                    for each in solution.rounds:
                        progress(each)
                return formulation.confirm(network, images, labels, solution)
        # The time limit is for the solver: it begins once there is a core for it.
        with free_core(settings.threads):
            start = time.monotonic()
            solution = formulation.propose(network, images, labels, instance.settings, progress=progress)
        draft = cache.draft(TASK, key)
        solution.save(draft.files / FOLDER)
        cache.seal(draft, TASK, key, about, time.monotonic() - start)
    return formulation.confirm(network, images, labels, solution)
