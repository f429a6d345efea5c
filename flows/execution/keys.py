"""Cache keys: one digest of settings, data, network, code, libraries and earlier files."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import training
from flows.adapters import dataset_of, device_of, network_of
from flows.cache import ROOMS, code_digest, key_of, structure_of
from flows.config import FREE, Settings
from flows.tracking import Run
from training import Dataset

ANY = "*"
OWN_RUN = "run"  # the input of a stage that is the run it will be told to
LIBRARIES = {"training": ("torch", "torchvision", "numpy"), "formulation": ("linopy", "highspy", "pyscipopt", "scipy")}


@dataclass(frozen=True)
class Recipe:
    """What a task depends on.

    Attributes:
        task: its name, with arguments in braces where one run has several of its calls.
        settings: those that it may read; others are not there while it works.
        reads: which earlier tasks' files it reads, by the name of its argument that is a run, or several; ANY: of all.
        rooms: the packages whose code does the work.
        data, network: whether it reads the data set, and the network's structure.
        initial: whether it starts from the network's first weights.
        once: whether it belongs to its run alone, and is never taken over by another.
        returns: whether it returns something, which JSON must know.
    """

    task: str
    settings: tuple[str, ...]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rooms: tuple[str, ...] = ("training",)
    data: bool = True
    network: bool = True
    initial: bool = False
    once: bool = False
    returns: bool = False

    def name(self, values: Mapping[str, object]) -> str:
        """The name of one call with these values as its arguments."""
        return self.task.format(**values)


def narrowed(recipe: Recipe, settings: Settings) -> Settings:
    """The settings without those that the recipe does not name: to read one is an AttributeError."""
    return settings.only((*recipe.settings, *FREE))


def about(recipe: Recipe, stage: Callable[..., object], settings: Settings, run: Run, *given: Any) -> dict[str, object]:
    """Everything that the result of a stage function depends on, by name, as JSON has it."""
    signature = inspect.signature(stage)
    inputs = (run, *given) if OWN_RUN in signature.parameters else given
    arguments = signature.bind(settings, *inputs).arguments
    values = {name: value for name, value in list(arguments.items())[1:] if name not in recipe.reads}
    found: dict[str, object] = {
        "task": recipe.name(values),
        "settings": {name: _resolved(settings, name) for name in sorted(recipe.settings)},
        "values": {name: value for name, value in values.items() if not _is_run(value)},
        "reads": {name: _contents(arguments.get(name), tasks) for name, tasks in recipe.reads.items()},
        "code": {room: code_digest(room) for room in ("flows", "tracing", *recipe.rooms)},
        "libraries": {name: version(name) for room in recipe.rooms for name in LIBRARIES[room]},
    }
    if recipe.data or recipe.network:
        dataset = dataset_of(settings)
        found["data"] = data_digest(dataset)
        if recipe.network:
            # Where the weights come from a run, the checkpoint that training began with may be gone by now.
            start = settings if recipe.initial else settings.model_copy(update={"checkpoint": ""})
            network = network_of(start, dataset)
            found["network"] = structure_of(network)
            if recipe.initial:
                found["weights"] = training.model_digest(network)
    if recipe.once:
        found["run"] = run.run_id
    return found


def identity_of(name: str, settings: Settings, sources: Mapping[str, Run] | None = None) -> str:
    """What makes the run of a flow or a stage that very one: the same command with the same code has the same."""
    values = {each: value for each, value in settings.model_dump().items() if each not in FREE}
    runs = {source: run.run_id for source, run in (sources or {}).items()}
    return key_of({"name": name, "settings": values, "sources": runs, "code": [code_digest(room) for room in ROOMS]})


# A data set is the same object for as long as it is read.
@lru_cache(maxsize=2)
def data_digest(dataset: Dataset) -> str:
    """SHA-256 (hex) of a data set's splits and the names of its classes."""
    parts = (dataset.train.digest(), dataset.validation.digest(), dataset.test.digest(), *dataset.classes)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _contents(runs: object, tasks: tuple[str, ...]) -> object:
    match runs:
        case None:
            return None
        case Run():
            found = runs.contents()
            chosen = {task: digest for task, digest in found.items() if ANY in tasks or task in tasks}
            # A run of an earlier version says nothing of what is in it: it is taken for itself.
            return chosen or runs.run_id
        case Mapping():
            return {name: _contents(run, tasks) for name, run in runs.items()}
        case list() | tuple():
            return [_contents(run, tasks) for run in runs]
    raise TypeError(f"a run, or several of them, is needed, found {type(runs).__name__}")


def _is_run(value: object) -> bool:
    return isinstance(value, Run)


def _resolved(settings: Settings, name: str) -> object:
    return device_of(settings) if name == "device" else getattr(settings, name)
