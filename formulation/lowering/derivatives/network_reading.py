"""Reading a module for a score call: lowered where it can be, differentiated where that is enough."""

from __future__ import annotations

from typing import Any

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidModel, UnsupportedLayer
from formulation.lowering.derivatives.whole_network import differentiable
from formulation.lowering.walk import lower
from formulation.network import Network
from naming import DerivativesOf, GateName


def read_network(
    model: Any, example_input: Any, gate: GateName, derivatives: DerivativesOf = "auto", deadline: Deadline = NEVER
) -> Network:
    """The network of a module, as its gate needs it.

    Args:
        model: a torch module in eval mode.
        example_input: images [n, ...].
        gate: all but `linear` need a lowered network.
        derivatives: of `linear`; with `auto` the lowered network's, torch's where it cannot be lowered or lowering
            leaves nothing to score.
        deadline: by which it must be read.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, TimeLimitReached: as `lower` and `differentiable`.
    """
    if gate != "linear" or derivatives == "lowering":
        return lower(model, example_input, deadline)
    if derivatives == "autograd":
        return differentiable(model, example_input, deadline)
    try:
        return lower(model, example_input, deadline)
    except (UnsupportedLayer, InvalidModel) as refusal:
        try:
            return differentiable(model, example_input, deadline)
        except (UnsupportedLayer, InvalidModel):
            raise refusal from None
