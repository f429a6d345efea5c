"""Findings kept as JSON files, so that a benchmark goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def keep(path: Path, found: Any) -> None:
    """Write a finding; a file that is there is whole.

    Args:
        path: of the file; its folder is made where it is missing.
        found: plain data.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as unfinished:
        whole = Path(unfinished) / path.name
        whole.write_text(json.dumps(found))
        whole.replace(path)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What a file holds; where there is none, it is made and kept first.

    Args:
        path: of the file.
        make: measures what the file is to hold.

    Returns:
        The finding as it is read from the file, the same the first time and every other.
    """
    if not path.exists():
        keep(path, make())
    return json.loads(path.read_text())
