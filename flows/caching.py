"""The cache of the settings, and the digests of code that its keys are made of."""

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from torch import nn

from flows.records import Cache, without_cache
from flows.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
NOTHING = "none"
VARIABLE = "CRITICAL_NEURONS_CACHE"
DEFAULT_FOLDER = Path.home() / ".cache" / "critical-neurons" / "work"
# What of the flows' own code does the work of stages; the rest leads up to it.
WORKING = ("accounts", "figures", "gathering", "handover", "programs", "selection", "solving", "translation")


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
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


@cache
def code_digest(room: str) -> str:
    """SHA-256 (hex) of a package's source; of the flows only what does the work of stages counts."""
    files = sorted((ROOT / room).rglob("*.py"))
    if room == "flows":
        files = [path for path in files if "stages" in path.parts or path.stem in WORKING]
    return digest_of_files(files, ROOT)


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
