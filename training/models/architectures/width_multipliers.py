"""Widths in models' names: `vgg16@0.25` is vgg16 with a quarter of the units in every hidden layer."""

from __future__ import annotations

from training.errors import UnknownModel

MARK = "@"
# Far beyond any use: a slip of the hand, or a file that names its model, must not ask for all of the memory.
WIDEST = 16.0


def read_width(name: str) -> tuple[str, float]:
    """The name of the network and its width: what is behind `@`, or 1.

    Args:
        name: of a network, perhaps with a width.

    Raises:
        UnknownModel: what is behind `@` is no number above 0 and up to 16.
    """
    network, mark, given = name.partition(MARK)
    if not mark:
        return name, 1.0
    try:
        width = float(given)
    except ValueError:
        width = 0.0
    if not 0.0 < width <= WIDEST:
        raise UnknownModel(
            f"model {name!r}: the width {given!r} behind {MARK!r} is out of range: use a number above 0 and up to "
            f"{WIDEST:g}, such as {network}{MARK}0.25"
        )
    return network, width


def widen(units: int, width: float) -> int:
    """So many times the units, rounded, at least 1."""
    return max(1, round(width * units))
