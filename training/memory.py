"""Memory that arrays would need, against the most that this process can ever have."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from training.errors import DataError

CGROUPS = Path("/sys/fs/cgroup")
PER_VALUE = 5  # bytes of a pixel's channel: one as read, four in a split
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def lacking(needed: int) -> str | None:
    """In words what so many bytes ask for and what there is, where that is less; else None."""
    limit = memory_limit()
    if needed <= limit:
        return None
    return f"{in_words(needed)} of memory, where this process can have {in_words(limit)}"


def require_room(dataset: str, images: int, shape: tuple[int, int, int]) -> None:
    """Raise DataError where so many images [C, H, W] do not fit into memory."""
    channels, height, width = shape
    said = lacking(images * channels * height * width * PER_VALUE)
    if said is not None:
        raise DataError(
            f"dataset {dataset!r}: {images} images of {channels}x{height}x{width} would take {said}: give a smaller "
            f"image_size, or fewer images"
        )


def memory_limit() -> int:
    """Bytes: the least of the machine's memory, the process's own limits and those of its control groups."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limits += [soft for soft in resource.getrlimit(kind)[:1] if soft != resource.RLIM_INFINITY]
    return min(limits + [int(text) for text in _of_groups() if text.isdigit()])


def in_words(count: int) -> str:
    """A number of bytes with three digits."""
    size, unit = float(count), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}" if size < 1000 else f"more than 1000 {UNITS[-1]}"


def _of_groups() -> list[str]:
    """What the files of this process's control groups say, of both versions; nothing elsewhere than on Linux."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    said = []
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names not in ("", "memory"):
            continue
        root, file = (CGROUPS, "memory.max") if not names else (CGROUPS / "memory", "memory.limit_in_bytes")
        inside = root / path.lstrip("/")
        # A container sees its own group at the root, whatever path it is told.
        for place in {root, inside, *(parent for parent in inside.parents if parent.is_relative_to(root))}:
            try:
                said.append((place / file).read_text().strip())
            except OSError:
                continue
    return said
