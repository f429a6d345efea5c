"""A factory's trial: a program of its own, so that a file which ends its process ends this one.

`python factory_trial.py NAME DESCRIPTOR` writes to the descriptor what is against the factory as JSON, or null.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType


def try_factory(name: str, descriptor: int) -> None:
    """Import the factory's place, call it, and say what is against what it gives."""
    said = _complaint(name)
    os.write(descriptor, json.dumps(said).encode())
    os._exit(0)  # without waiting for threads that the file may have left


def _complaint(name: str) -> str | None:
    place, _, factory_name = name.rpartition(":")
    is_file = place.endswith(".py")
    sys.path.insert(0, str(Path(place).resolve().parent if is_file else Path.cwd()))
    try:
        module = _import_file(Path(place).resolve()) if is_file else importlib.import_module(place)
    except BaseException as error:  # noqa: BLE001 - a stranger's file may raise anything, and this process is its own
        return f"{place} cannot be imported ({_say(error)})"
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        return f"{place} has no function or class {factory_name!r}"
    try:
        model = factory()
    except BaseException as error:  # noqa: BLE001 - likewise
        return f"{factory_name}() called without arguments fails ({_say(error)})"
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return f"{factory_name}() returns {type(model).__name__}, not a torch nn.Module"
    return None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    spec = importlib.util.spec_from_file_location("tried_model", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tried_model"] = module
    spec.loader.exec_module(module)
    return module


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    try_factory(sys.argv[1], int(sys.argv[2]))
