"""Nearest names: the question that an error asks where a name is misspelt."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

NEAR = 0.5  # of difflib's ratio of equal letters
BEHIND = 0.2  # by which the ratio of a further name may be less than the nearest one's


def did_you_mean(name: object, known: Iterable[str], *, most: int = 1, before: str = "") -> str:
    """The question "did you mean 'a' or 'b'?" with the names nearest to one, empty where none is near.

    Args:
        name: what was given, in any case of letters; a person's input, so of any type.
        known: the names that there are.
        most: how many to ask of, the nearest first.
        before: what stands before each name in the question, as a prefix that was taken off.
    """
    by_letters = {each.lower(): each for each in known}
    asked = str(name).lower()
    found = get_close_matches(asked, by_letters, most, NEAR)
    ratios = [SequenceMatcher(None, each, asked).ratio() for each in found]
    near = [
        f"'{before}{by_letters[each]}'"
        for each, ratio in zip(found, ratios, strict=True)
        if ratio >= ratios[0] - BEHIND
    ]
    return f"did you mean {' or '.join(near)}?" if near else ""
