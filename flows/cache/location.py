"""The cache of the settings, and the digests of code that its keys are made of."""

import hashlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from torch import nn

from flows.cache.folder import Cache, without_cache
from flows.cache.marker import key_digest
from flows.config import Settings

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("flows", "formulation", "naming", "tracing", "training")
NOTHING = "none"
VARIABLE = "CRITICAL_NEURONS_CACHE"
DEFAULT_FOLDER = Path.home() / ".cache" / "critical-neurons" / "work"
# The rooms of the flows that do the work of stages; the rest leads up to it.
WORKING = ("adapters", "reporting", "stages")


@contextmanager
def cache_of(settings: Settings) -> Iterator[Cache]:
    """The settings' cache: the folder named, else $CRITICAL_NEURONS_CACHE, else one in the home folder; or none."""
    named = settings.cache or os.environ.get(VARIABLE, "")
    if named == NOTHING:
        with without_cache() as nothing:
            yield nothing
        return
    yield Cache(Path(named).expanduser().resolve() if named else DEFAULT_FOLDER)


def key_of(found: Mapping[str, object]) -> str:
    """The digest of what a result depends on, as JSON has it: SHA-256 in 32 hexadecimal digits."""
    return key_digest(found)


@cache
def code_digest(room: str) -> str:
    """SHA-256 (hex) of a package's source; of the flows only the rooms that do the work of stages count."""
    places = [ROOT / room / each for each in WORKING] if room == "flows" else [ROOT / room]
    return digest_of_files(sorted(path for place in places for path in place.rglob("*.py")), ROOT)


def structure_of(network: nn.Module) -> dict[str, str]:
    """A network's layers, and a digest of the code of those that are not torch's or the project's own."""
    kinds = {type(module) for module in network.modules()}
    own = (
        inspect.getsourcefile(kind) for kind in kinds if kind.__module__.partition(".")[0] not in ("torch", "training")
    )
    return {"layers": str(network), "code": digest_of_files(sorted({Path(path) for path in own if path}), Path("/"))}


def digest_of_files(files: Iterable[Path], root: Path) -> str:
    """SHA-256 (hex) of files' paths below a folder and what is in them."""
    sha = hashlib.sha256()
    for path in files:
        sha.update(f"{path.relative_to(root)}|".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()
