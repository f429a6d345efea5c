"""Head counts: the whole numbers by which hand-written attention knows how many heads it has, and how wide they are."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from training.pruning.dependencies import Links


def counted_heads(model: nn.Module, links: Links) -> list[str]:
    """The attributes of the module around a layer that may hold how many heads there are, or the width of them all.

    Args:
        model: before any layer of it is cut.
        links: of the layer whose units are heads.

    Returns:
        Names of attributes that are such whole numbers; none where each unit is one row of each layer.
    """
    return [name for name, value in _held(model, links).items() if value in _numbers(links, links.units)]


def count_heads(model: nn.Module, links: Links, heads: int, names: Collection[str]) -> None:
    """Write into the module around a layer how many heads are left, in place.

    Args:
        model: is changed.
        links: of the layer whose units are heads.
        heads: how many stay.
        names: attributes, of those that `counted_heads` has found.
    """
    if not names:
        return
    around, before = _around(model, links), _held(model, links)
    for name in names:
        setattr(around, name, before[name] * heads // links.units)


def _held(model: nn.Module, links: Links) -> dict[str, int]:
    found = vars(_around(model, links)) if links.rows else {}
    return {name: value for name, value in found.items() if type(value) is int}


def _numbers(links: Links, heads: int) -> tuple[int, ...]:
    """How many heads there are, and how wide they are together where the layer behind them reads them."""
    return (heads, *(heads * reader.span for reader in links.readers))


def _around(model: nn.Module, links: Links) -> nn.Module:
    return model.get_submodule(links.layer.rpartition(".")[0])
