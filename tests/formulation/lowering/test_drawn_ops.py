"""Networks drawn from the op table: torch, lowered, masked, compacted and differentiated are one network."""

from __future__ import annotations

import pytest

from tests.formulation.lowering.drawn_ops import differences

# Of these both kinds of derivatives score the same layers: there is something to compare.
DIFFERENTIATED = frozenset({0, 1, 2, 4, 5, 6, 7, 8, 9, 10})


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_network_is_the_same_in_every_form(seed: int) -> None:
    found = differences(seed)
    compared = {name for name, apart in found.items() if apart >= 0}
    assert compared >= {"lowered", "masked", "compacted"} | ({"differentiated"} if seed in DIFFERENTIATED else set())
    assert max(found.values()) <= 1e-9, found
