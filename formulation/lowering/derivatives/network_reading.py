"""Reading a module for a score call: lowered where it can be, differentiated where that is enough."""

from __future__ import annotations

from typing import Any

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidModel, UnsupportedLayer
from formulation.lowering.agreement import difference, outputs_of
from formulation.lowering.derivatives.whole_network import differentiable
from formulation.lowering.example_images import first_image
from formulation.lowering.pace import copied
from formulation.lowering.walk import lower
from formulation.network import Network
from naming import DerivativesOf, GateName

# Of convolutions' matrices, 1.6 GB of them: what is larger takes less memory and time by derivatives.
LOWERED_ENTRIES = 2**27


def read_network(
    model: Any,
    example_input: Any,
    gate: GateName,
    derivatives: DerivativesOf = "auto",
    deadline: Deadline = NEVER,
    *,
    normalised: bool = True,
) -> Network:
    """The network of a module, as its gate needs it.

    Args:
        model: a torch module in eval mode.
        example_input: images [n, ...].
        gate: all but `linear` need a lowered network.
        derivatives: of `linear`; with `auto` the lowered network's, torch's where it cannot be lowered, where its
            convolutions' matrices would be large, or where lowering leaves nothing to score.
        deadline: by which it must be read.
        normalised: whether the module may end in a softmax or log-softmax, which is left out of the network.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, TimeLimitReached: as `lower` and `differentiable`; InvalidModel
            for a softmax at the end that must not be.
    """
    network = _read(model, example_input, gate, derivatives, deadline)
    if not normalised:
        deadline.require("comparing the network with the model")
        _refuse_softmax(model, example_input, network, deadline)
    return network


def _refuse_softmax(model: Any, example_input: Any, network: Network, deadline: Deadline) -> None:
    example = first_image(example_input)
    outputs = outputs_of(copied(model, deadline), example)
    if difference(network.evaluate(example.flatten(1).numpy().T), outputs, normalised=False):
        raise InvalidModel(
            "the network ends in a softmax or log-softmax, and loss='squared' reads the values before it; give a "
            "module that returns these, and targets of them, or set loss='cross_entropy'"
        )


def _read(model: Any, example_input: Any, gate: GateName, derivatives: DerivativesOf, deadline: Deadline) -> Network:
    if gate != "linear" or derivatives == "lowering":
        return lower(model, example_input, deadline)
    if derivatives == "autograd":
        return differentiable(model, example_input, deadline)
    try:
        return lower(model, example_input, deadline, most_entries=LOWERED_ENTRIES)
    except (UnsupportedLayer, InvalidModel):
        try:
            return differentiable(model, example_input, deadline)
        except (UnsupportedLayer, InvalidModel) as refusal:
            try:
                return lower(model, example_input, deadline)
            except UnsupportedLayer:
                raise refusal from None  # derivatives would do: what lowering lacks is not what is wrong
