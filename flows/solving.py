"""Solving a program once: what the solver found is kept before it is checked, and checked whenever it is used."""

import logging
import time
from collections.abc import Callable
from importlib.metadata import version

from torch import Tensor, nn

import formulation
import training
from flows.caching import cache_of, code_digest, key_of
from flows.settings import Settings
from flows.slots import free_core
from flows.translation import score_settings_of
from formulation import InvalidSolution, Round, Solution

LOG = logging.getLogger(__name__)
TASK, FOLDER = "solve", "solution"
SOLVERS = ("linopy", "highspy", "pyscipopt", "numpy", "scipy")


def solved(
    settings: Settings,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    progress: Callable[[Round], None] | None = None,
) -> Solution:
    """The checked solution of the settings' program, from the cache where the same has been solved before.

    `progress` is told the rounds either way. Raises what `formulation.score` does.
    """
    about = {
        "settings": score_settings_of(settings).to_dict(),
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
            solution = formulation.propose(network, images, labels, score_settings_of(settings), progress=progress)
        draft = cache.draft(TASK, key)
        solution.save(draft.files / FOLDER)
        cache.seal(draft, TASK, key, about, time.monotonic() - start)
    return formulation.confirm(network, images, labels, solution)
