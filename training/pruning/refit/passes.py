"""Forward passes up to a layer, in which what earlier passes over the same images have computed is not computed again.

Layer after layer is asked what it reads, so passes that begin anew would cost as many whole ones as there are layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tracing import parts_called
from training.inference import weight_type

Fitted = nn.Linear | nn.Conv1d | nn.Conv2d
KEPT = 2**27  # numbers of outputs kept for a network, of all images together
AT_ONCE = 2**24  # numbers of one layer's outputs in one pass
MOST = 512  # images of one pass


class _Reached(Exception):
    """The layer that was asked for has emitted: no error, the pass ends there."""


@dataclass(eq=False)
class Room:
    """How many numbers may still be kept."""

    left: int = KEPT

    def take(self, numbers: int) -> bool:
        """Whether there is room for so many, which then is taken."""
        if numbers > self.left:
            return False
        self.left -= numbers
        return True


@dataclass(frozen=True, eq=False)
class Passes:
    """Forward passes of a network over a few images, each up to a layer.

    Outputs of Linear layers and convolutions are kept, while there is room, and handed on in later passes in place of
    being computed. Those before the layer asked for must not change any more from then on.

    Attributes:
        network: in evaluation mode.
        images: [n, C, H, W], on its device and of its type.
        room: for the outputs that are kept.
        constant: whether the layer asked for does not change either, so that its output is kept as well.
    """

    network: nn.Module
    images: Tensor
    room: Room
    constant: bool = False
    _outputs: dict[str, Tensor] = field(default_factory=dict)

    def emitted(self, name: str) -> Tensor:
        """What a layer emits; where no layer changes, one whole pass sees to all layers that there is room for."""
        if self.constant and not self._outputs:
            with parts_called(self.network), self._handing_on(name), torch.no_grad():
                self.network(self.images)
        return self._outputs[name] if name in self._outputs and self.constant else self.until(name)[1]

    def until(self, name: str) -> tuple[Tensor, Tensor]:
        """What a layer reads and emits; the pass ends there."""
        seen: list[tuple[Tensor, Tensor]] = []

        def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            seen.append((given[0], made))
            raise _Reached

        handle = self.network.get_submodule(name).register_forward_hook(note)
        try:
            with parts_called(self.network), self._handing_on(name), torch.no_grad(), suppress(_Reached):
                self.network(self.images)
        finally:
            handle.remove()
        return seen[0]

    @contextmanager
    def _handing_on(self, asked: str) -> Iterator[None]:
        called: set[str] = set()
        with ExitStack() as stack:
            for name, layer in self.network.named_modules():
                if isinstance(layer, Fitted) and "forward" not in vars(layer) and (self.constant or name != asked):
                    # An attribute of the instance goes before the method, until it is taken away again.
                    layer.forward = partial(self._output, name, layer, called)  # type: ignore[method-assign]
                    stack.callback(delattr, layer, "forward")
            yield

    def _output(self, name: str, layer: nn.Module, called: set[str], *given: Any, **named: Any) -> Any:
        forward: Callable[..., Any] = type(layer).forward
        # A layer that is called several times emits something else each time.
        if name in called:
            return forward(layer, *given, **named)
        called.add(name)
        # Copies: what comes behind may write over what it is given.
        if name in self._outputs:
            return self._outputs[name].clone()
        made = forward(layer, *given, **named)
        if self.room.take(made.numel()):
            self._outputs[name] = made.clone()
        return made


def passes_over(
    network: nn.Module, images: Tensor, *, constant: bool = False, room: Room | None = None
) -> list[Passes]:
    """The passes of a network over images, few enough at once.

    Args:
        network: in evaluation mode.
        images: [n, C, H, W].
        constant: whether no layer changes between passes; else those before the layer asked for must not.
        room: for the outputs that are kept; without any each pass computes all anew.
    """
    place, kind = next(network.parameters()).device, weight_type(network)
    shared = Room() if room is None else room
    parts = torch.split(images, _images_at_once(network, images[:1].to(place, kind)))
    return [Passes(network, part.to(place, kind), shared, constant) for part in parts]


def _images_at_once(network: nn.Module, image: Tensor) -> int:
    largest = 1

    def note(_: nn.Module, __: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal largest
        largest = max(largest, made.numel())

    with ExitStack() as stack, torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, Fitted):
                stack.callback(layer.register_forward_hook(note).remove)
        network(image)
    return max(1, min(MOST, AT_ONCE // largest))
