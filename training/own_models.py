"""A person's own model from `package.module:factory` or `path/to/file.py:factory`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from training.errors import ModelError

# A foreign file may raise anything while it is imported or its factory runs, and may even try to end the process.
FOREIGN_ERRORS = (Exception, SystemExit)


def call_factory(name: str) -> nn.Module:
    """The model that the factory returns; it is called without arguments, so its parameters need defaults.

    A file's folder is importable while the file runs, as it is for `python file.py`.
    Raises ModelError where the file, module or factory is missing or fails, or returns something else.
    """
    place, _, factory_name = name.rpartition(":")
    if not place or not factory_name.isidentifier():
        raise ModelError(f"model {name!r} is not of the form package.module:factory or path/to/file.py:factory")
    is_file = place.endswith(".py")
    with _importable(Path(place).resolve().parent if is_file else Path.cwd()):
        try:
            module = _import_file(Path(place).resolve()) if is_file else importlib.import_module(place)
        except FOREIGN_ERRORS as error:
            raise ModelError(f"model {name!r}: {place} cannot be imported ({_say(error)})") from error
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise ModelError(f"model {name!r}: {place} has no function or class {factory_name!r}")
        try:
            model = factory()
        except FOREIGN_ERRORS as error:
            raise ModelError(
                f"model {name!r}: {factory_name}() called without arguments fails ({_say(error)})"
            ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r}: {factory_name}() returns {type(model).__name__}, not a torch nn.Module")
    return model


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    key = f"own_model_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered because pickling a model or a dataclass in that file looks its module up by name.
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except FOREIGN_ERRORS:
        del sys.modules[key]
        raise
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
