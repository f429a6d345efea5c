"""Kinds of what a path may lead to: only a file is opened, for the others might wait, never end, or take no end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str | None:
    """The word for whatever a mode of `stat` says is no file; None for a file."""
    return next((word for is_kind, word in KINDS if is_kind(mode)), None)


def obstacle_at(path: Path) -> str | None:
    """The word for what lies at a path and is no file that can be opened; None for a file, and where nothing lies."""
    try:
        return kind_of(path.stat().st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads to itself"
        if path.is_symlink():
            return "a link that leads nowhere"
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR) else f"not readable ({error.strerror})"
    except ValueError:
        return "no path"  # it has a zero byte
