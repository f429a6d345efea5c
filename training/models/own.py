"""A person's own model from `package.module:factory` or `path/to/file.py:factory`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from torch import nn

from training.errors import ModelError

# A foreign file may raise anything while it is imported or its factory runs; what would end the process, its trial
# has raised before, in a process of its own.
FOREIGN_ERRORS = (Exception, SystemExit)
TRIAL = Path(__file__).with_name("factory_trial.py")
TRIAL_SECONDS = 900.0  # it may have weights to download


def call_factory(name: str) -> nn.Module:
    """The model that the factory returns; it is called without arguments, so its parameters need defaults.

    A file's folder is importable while the file runs, as it is for `python file.py`. It is called in a process of its
    own first, without a terminal to read from: one that ends its process, in whatever way, does not end this one.
    Raises ModelError where the file, module or factory is missing, fails, ends its process or returns something else.
    """
    place, _, factory_name = name.rpartition(":")
    if not place or not factory_name.isidentifier():
        raise ModelError(f"model {name!r} is not of the form package.module:factory or path/to/file.py:factory")
    is_file = place.endswith(".py")
    if place != "__main__":
        complaint = _tried(name, str(Path.cwd()), _stamp(Path(place)) if is_file else None)
        if complaint is not None:
            raise ModelError(f"model {name!r}: {complaint}")
    with _no_input(), _importable(Path(place).resolve().parent if is_file else Path.cwd()):
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


# Once per process and file: every stage of a flow asks for its network.
@lru_cache(maxsize=64)
def _tried(name: str, folder: str, stamp: tuple[int, int] | None) -> str | None:
    """What a trial of the factory in a process of its own has against it; None where it gives a module."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # No pipe: whatever the factory starts, and leaves behind, would hold its other end.
    with tempfile.TemporaryFile("w+") as said:
        try:
            ended = subprocess.run(
                [sys.executable, "-P", "-B", str(TRIAL), name, str(said.fileno())],
                cwd=folder, env=environment, pass_fds=(said.fileno(),), check=False, timeout=TRIAL_SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it takes more than {TRIAL_SECONDS:g} s to give a model"
        except (OSError, ValueError) as error:
            return f"it cannot be tried ({error})"
        said.seek(0)
        text = said.read()
    if not text:
        code = ended.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"it ends the process that asks it for a model, {how}; let it return one"
    complaint = json.loads(text)
    return None if complaint is None else str(complaint)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def _no_input() -> Iterator[None]:
    """Standard input at its end: a file that asks for something is not waited for."""
    with tempfile.TemporaryFile() as nothing:
        try:
            terminal = os.dup(0)
        except OSError:  # closed already
            yield
            return
        os.dup2(nothing.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(terminal, 0)
            os.close(terminal)


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
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left in a stranger's folder
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = kept


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
