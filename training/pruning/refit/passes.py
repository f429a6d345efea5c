"""Forward passes up to a layer, in which what earlier passes over the same images have computed is handed on.

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
KEPT = 2**29  # bytes of outputs kept for a network, of all images together
AT_ONCE = 2**24  # numbers of one layer's outputs in one pass
MOST = 512  # images of one pass


class _Reached(Exception):
    """The layer that was asked for has emitted: no error, the pass ends there."""


@dataclass(eq=False)
class MemoryBudget:
    """How many bytes may still be kept; it shrinks as they are."""

    left: int = KEPT

    def take(self, size: int) -> bool:
        """Whether so many bytes are left, which then are taken."""
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass(eq=False)
class Passes:
    """Forward passes of a network over a few images, each up to a layer.

    Outputs of Linear layers and convolutions are kept, within a budget, and handed on in later passes in place of being
    computed. Those before the layer asked for must not change any more from then on.

    Attributes:
        network: in evaluation mode.
        images: [n, C, H, W], wherever and of whatever type they are.
        budget: for the outputs that are kept.
        needed: bytes of all outputs that could be.
        constant: whether the layer asked for does not change either, so that its output is kept as well.
    """

    network: nn.Module
    images: Tensor
    budget: MemoryBudget
    needed: int
    constant: bool = False
    _outputs: dict[str, Tensor] = field(default_factory=dict)
    _passed: bool = False

    def emitted(self, name: str) -> Tensor:
        """What a layer emits; where no layer changes and all outputs can be kept, one whole pass sees to them."""
        if self.constant and not self._passed and self.needed <= self.budget.left:
            with parts_called(self.network), self._handing_on(name), torch.no_grad():
                self.network(self._given())
        self._passed = True
        return self._outputs[name] if name in self._outputs and self.constant else self.until(name)[1]

    def until(self, name: str) -> tuple[Tensor, Tensor]:
        """What a layer reads and emits; the pass ends there."""
        seen: list[tuple[Tensor, Tensor]] = []

        def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            seen.append((given[0], made))
            raise _Reached

        # Before other hooks: the weights are answerable for what the layer itself emits.
        handle = self.network.get_submodule(name).register_forward_hook(note, prepend=True)
        try:
            with parts_called(self.network), self._handing_on(name), torch.no_grad(), suppress(_Reached):
                self.network(self._given())
        finally:
            handle.remove()
        return seen[0]

    def _given(self) -> Tensor:
        return _as_read(self.network, self.images)

    @contextmanager
    def _handing_on(self, asked: str) -> Iterator[None]:
        called: set[str] = set()
        with ExitStack() as stack:
            for name, layer in _kept_layers(self.network).items():
                if self.constant or name != asked:
                    # An attribute of the instance goes before the method, until it is taken away again.
                    layer.forward = partial(self._output, name, layer, called)
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
        if isinstance(made, Tensor) and self.budget.take(_size(made)):
            self._outputs[name] = made.clone()
        return made


def passes_over(
    network: nn.Module,
    images: Tensor,
    *,
    constant: bool = False,
    budget: MemoryBudget | None = None,
    outputs: LayerOutputs | None = None,
) -> list[Passes]:
    """The passes of a network over images, few enough at once.

    Args:
        network: in evaluation mode.
        images: [n, C, H, W].
        constant: whether no layer changes between passes; else those before the layer asked for must not.
        budget: for the outputs that are kept; without any bytes each pass computes all anew.
        outputs: how large they are, where that is known from images of the same shape.
    """
    shared = MemoryBudget() if budget is None else budget
    size = outputs or LayerOutputs.of(network, images[:1])
    parts = torch.split(images, max(1, min(MOST, AT_ONCE // max(1, size.largest))))
    return [Passes(network, part, shared, size.kept * len(part), constant) for part in parts]


@dataclass(frozen=True)
class LayerOutputs:
    """How large the outputs of one image are.

    Attributes:
        largest: numbers of the largest one of a Linear layer or convolution.
        kept: bytes of all that may be kept.
    """

    largest: int
    kept: int

    @classmethod
    def of(cls, network: nn.Module, image: Tensor) -> LayerOutputs:
        """Those of an image [1, C, H, W], by one pass."""
        sizes: list[tuple[int, int]] = []

        def note(_: nn.Module, __: tuple[Tensor, ...], made: Any) -> None:
            if isinstance(made, Tensor):
                sizes.append((made.numel(), _size(made)))

        with ExitStack() as stack, torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, Fitted):
                    stack.callback(layer.register_forward_hook(note).remove)
            network(_as_read(network, image))
        return cls(max((numbers for numbers, _ in sizes), default=1), sum(size for _, size in sizes))


def _kept_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers whose outputs are kept, by name: none that calls others of them, which would not be called then."""
    found: dict[str, nn.Module] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, Fitted) and "forward" not in vars(layer):
            inner = (each for each in layer.modules() if each is not layer)
            if not any(isinstance(each, Fitted) for each in inner):
                found[name] = layer
    return found


def _as_read(network: nn.Module, images: Tensor) -> Tensor:
    return images.to(next(network.parameters(), images).device, weight_type(network))


def _size(values: Tensor) -> int:
    return values.numel() * values.element_size()
