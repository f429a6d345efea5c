"""Names of files and metrics that are made of a layer's name, which may hold anything: torch allows `/x/y` and `é`."""

import hashlib
import posixpath
import re

LONGEST = 120  # characters of a name as it is
DIGITS = 8


def file_name(name: str) -> str:
    """A name for a file of its own: the name itself where it is plain, else without what leads out of a folder.

    Two names never share a file: one that is not plain ends in its digest.
    """
    plain = re.sub(r"[^A-Za-z0-9_.,+ ()=@-]", "~", name).strip(" ")
    if plain == name and len(name) <= LONGEST and not name.startswith("."):
        return name
    return f"{plain.lstrip('.')[:LONGEST]}~{_digest(name)}"


def metric_name(name: str) -> str:
    """A name that MLflow takes for a metric: the name itself, where it does."""
    plain = re.sub(r"[^\w. :/-]", "_", name)
    if plain == name and len(name) <= LONGEST and is_path(name):
        return name
    return f"{plain.replace('/', '_')[:LONGEST]}.{_digest(name)}"


def is_path(file: str) -> bool:
    """Whether a path stays below where it starts, and is written in the one way that MLflow takes."""
    return posixpath.normpath(file) == file and not file.startswith(("/", "..")) and "\0" not in file


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
