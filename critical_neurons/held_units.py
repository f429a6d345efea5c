"""Held units: removed units stay at zero through whatever optimiser steps somebody else's training takes."""

from __future__ import annotations

import weakref
from inspect import signature
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from critical_neurons.given_masks import read_masks
from training import Masks, UnsupportedGraph, Zeros, hold_at_zero, removed_entries


class HeldUnits:
    """Removed units of a network that is being trained, kept at zero until `release` or the end of a `with`.

    Attributes:
        masks: by layer, bool per unit: True = kept.
    """

    def __init__(self, network: nn.Module, masks: Masks, example: Tensor | None) -> None:
        self.masks = masks
        self._network = weakref.ref(network)
        self._zeros: Zeros | None = None
        self._following = False
        self._first: RemovableHandle | None = None
        if example is not None:
            self._follow(network, example)
        else:
            self._first = network.register_forward_pre_hook(self._before_first_pass, with_kwargs=True)
        self._handles: list[RemovableHandle] = [register_optimizer_step_post_hook(self._after_step)]

    def apply(self) -> None:
        """Set the held entries to exactly 0 now, as after an optimiser's step."""
        network = self._network()
        if network is not None and self._zeros is not None:
            hold_at_zero(network, self._zeros)

    def release(self) -> None:
        """Hold no longer; what was held is 0 once more: nothing, without images and before any pass."""
        self.apply()
        for handle in (*self._handles, *([self._first] if self._first else [])):
            handle.remove()
        self._handles, self._first = [], None

    def __enter__(self) -> HeldUnits:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _follow(self, network: nn.Module, example: Tensor) -> None:
        # A layer that keeps all its units need not be followed.
        removing = {layer: mask for layer, mask in self.masks.items() if not mask.all()}
        self._zeros = removed_entries(network, removing, example)
        self.apply()

    def _before_first_pass(self, network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self._following:  # the units are followed by passes of the network itself
            return
        images = _first_argument(network, inputs, named)
        if not isinstance(images, Tensor):
            raise UnsupportedGraph(f"the first batch is {type(images).__name__}, no tensor: give hold images")
        self._following = True
        try:
            with torch.no_grad():
                self._follow(network, images.detach())
        finally:
            self._following = False
        # Only now: where the masks do not fit, the next pass says so again.
        if self._first is not None:
            self._first.remove()
            self._first = None

    def _after_step(self, *_: Any) -> None:
        self.apply()


def _first_argument(network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a call gives for the first parameter of `forward`, by place or by name; None where it gives nothing."""
    if inputs:
        return inputs[0]
    return next((named[name] for name in [*signature(network.forward).parameters, *named] if name in named), None)


def hold(network: nn.Module, masks: Any, images: Tensor | None = None) -> HeldUnits:
    """Keep removed units at exactly 0 through one's own training, whatever the optimiser.

    After every step of any optimiser the entries of the removed units are 0: their incoming weights, bias, BatchNorm
    and outgoing weights, so that neither momentum nor weight decay revives them. The network itself is changed, in
    place. Use the result as a context manager, or call `release`.

    Args:
        network: that is trained; the plain module, not a wrapper of it.
        masks: by layer, one bool per unit, True = kept: numpy arrays, torch tensors, lists, or `PruneResult.masks`.
        images: [n, ...], of which the first shows the way of the units; without it the first batch does, before its
            pass, and nothing is held until then.

    Raises:
        MaskError: the masks do not fit; where one is shorter than its layer is wide and no images are given, in the
            first pass and in every later one.
        UnsupportedGraph: a removed unit cannot be followed; without images, in the passes.
    """
    return HeldUnits(network, read_masks(network, masks), None if images is None else images[:1])
