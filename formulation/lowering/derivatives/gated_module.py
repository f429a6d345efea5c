"""Passes through a traced module with a gate on every unit: logits, and derivatives by torch's autograd."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from formulation.errors import InvalidModel
from formulation.lowering.derivatives.constant_convolutions import ConstantConvolutions
from formulation.lowering.derivatives.explicit_attention import ExplicitAttention
from formulation.lowering.derivatives.gated_units import GatedUnits, GatePlace
from formulation.lowering.derivatives.unit_layouts import IMAGES
from formulation.network import Array
from tracing import Graph, Instead, KeepingFloat64, TracedNode, run

AT_ONCE = 2**26  # numbers that the values of a batch hold together
NO_DERIVATIVE = (
    "the logits have no derivative by units of '{}' at some image: an operation behind them has none there, as a "
    "square root or a norm at 0 has none; add a small number to what it reads"
)
# torch counts levels of dual numbers for the whole process, and knows one.
_ONE_AT_A_TIME = threading.Lock()
# torch leaves both without types.
_dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual
_unpacked: Callable[[Tensor], tuple[Tensor, Tensor | None]] = forward_ad.unpack_dual


@dataclass(frozen=True, eq=False)
class GatedModule:
    """`GatedPasses` of a module: a float64 copy of it on the CPU, in evaluation mode.

    With v what units hand on at a place and g their gates, its readers get g v, so that

        d o / d g_j = sum over pixels or tokens of (d o / d v) v,  over the places of unit j

    Attributes:
        graph: of the module, traced on `IMAGES` images.
        logits: the node that makes them.
        units: which have gates, and where these act.
        shape: of one image.
        identity: SHA-256 over all that the passes depend on, see `digest_of_passes`.
    """

    graph: Graph
    logits: TracedNode
    units: GatedUnits
    shape: tuple[int, ...]
    identity: str

    @property
    def size(self) -> int:
        return sum(layer.units for layer in self.units.layers)

    def gated(self, pixels: Array, gates: Array) -> Array:
        """Logits at gates, see `GatedPasses`."""
        with torch.no_grad():
            return _joined(
                [self._forward(x, torch.from_numpy(gates).expand(len(x), -1)).T for x in self._parts(pixels)]
            )

    def jacobian(self, pixels: Array, *, margins: bool = False) -> tuple[Array, Array]:
        """Logits and their derivatives: a pass backwards for each class, or margin, see `GatedPasses`."""
        logits, found = zip(*(self._derivatives(x, margins=margins) for x in self._parts(pixels)), strict=True)
        return _joined([each.T for each in logits]), np.concatenate(found)

    def along(self, pixels: Array, step: Array) -> Array:
        """Logits to first order: a pass forwards on dual numbers, see `GatedPasses`.

        Where an operation has no derivative forwards, that of the derivative backwards by its weights.
        """
        direction = torch.from_numpy(step)
        return _joined([self._along(x, direction).T for x in self._parts(pixels)])

    def pulled(self, pixels: Array, weights: Array) -> tuple[Array, Array]:
        """Logits and their weighted derivatives: a pass backwards, see `GatedPasses`."""
        logits, found, first = [], [], 0
        for x in self._parts(pixels):
            gates = torch.ones(len(x), self.size, dtype=torch.float64, requires_grad=True)
            some = torch.from_numpy(np.ascontiguousarray(weights[:, first : first + len(x)].T))
            made = self._forward(x, gates)
            (slopes,) = torch.autograd.grad((made * some).sum(), gates)
            logits.append(made.detach().T)
            found.append(self._finite(slopes))
            first += len(x)
        return _joined(logits), np.concatenate(found)

    def digest(self) -> str:
        """Of the module as it was read; see `GatedPasses`."""
        return self.identity

    def _forward(self, images: Tensor, gates: Tensor) -> Tensor:
        """Logits [n, classes] for images [n, ...] and gates [n, size]."""
        padded = torch.cat([gates, gates.new_ones(len(gates), 1)], 1)  # NO_UNIT reads the last one
        instead = {
            node: [Instead(_Factor(padded, place), place.readers) for place in places]
            for node, places in self.units.places.items()
        }
        with _differentiably():
            made = run(
                self.graph,
                {self.graph.inputs[0]: images.clone()},
                keep={self.logits},
                nodes=self._needed,
                instead=instead,
            )
        logits = made[self.logits]
        assert isinstance(logits, Tensor), "the network has been read"
        return logits

    def _along(self, images: Tensor, direction: Tensor) -> Tensor:
        ones = torch.ones(len(images), self.size, dtype=torch.float64)
        try:
            with _ONE_AT_A_TIME, forward_ad.dual_level(), torch.no_grad():
                value, moved = _unpacked(self._forward(images, _dual(ones, direction.expand_as(ones).contiguous())))
                if moved is None or bool(moved.isfinite().all()):
                    return value if moved is None else value + moved
        except NotImplementedError:
            gates = ones.requires_grad_()
            logits = self._forward(images, gates)
            weights = torch.zeros_like(logits, requires_grad=True)
            (slopes,) = torch.autograd.grad((logits * weights).sum(), gates, create_graph=True)
            (moved,) = torch.autograd.grad(slopes, weights, direction.expand_as(slopes))
            return (logits + moved).detach()
        # Some operations have a derivative backwards alone, as a norm behind a ReLU at 0.
        logits, found = self._derivatives(images)
        return logits + torch.from_numpy(found) @ direction

    def _derivatives(self, images: Tensor, *, margins: bool = False) -> tuple[Tensor, Array]:
        """Logits [n, classes] of images, and their derivatives, or the margins', [n, classes, size]."""
        gates = torch.ones(len(images), self.size, dtype=torch.float64, requires_grad=True)
        made = self._forward(images, gates)
        classes = made.shape[1]
        asked = made - made[:, -1:] if margins else made
        found, passes = np.zeros((len(images), classes, self.size)), classes - margins
        for label in range(passes):
            (slopes,) = torch.autograd.grad(asked[:, label].sum(), gates, retain_graph=label < passes - 1)
            found[:, label] = self._finite(slopes)
        return made.detach(), found

    def _finite(self, slopes: Tensor) -> Array:
        """Derivatives by the gates; raises InvalidModel where there are none."""
        if not bool(slopes.isfinite().all()):
            without = int((~slopes.isfinite()).any(0).nonzero()[0])
            ends = np.cumsum([layer.units for layer in self.units.layers])
            layer = self.units.layers[int(np.searchsorted(ends, without, side="right"))]
            raise InvalidModel(NO_DERIVATIVE.format(layer.name))
        made: Array = slopes.numpy()
        return made

    @cached_property
    def _needed(self) -> list[TracedNode]:
        wanted = self.graph.before(self.logits) | {self.logits}
        return [node for node in self.graph.nodes if node in wanted]

    @cached_property
    def _at_once(self) -> int:
        """How many images keep the values of a batch in memory."""
        sizes = [int(np.prod(node.shape)) // IMAGES for node in self._needed if node.live and node.shape is not None]
        return max(1, AT_ONCE // max(1, sum(sizes)))

    def _parts(self, pixels: Array) -> Iterator[Tensor]:
        images = torch.from_numpy(np.ascontiguousarray(pixels.T)).reshape(-1, *self.shape)
        yield from torch.split(images, self._at_once)


@dataclass(frozen=True, eq=False)
class _Factor:
    """Multiplies a value by the gates of its entries, which are the last of `padded` where none acts."""

    padded: Tensor
    place: GatePlace

    def __call__(self, value: Tensor) -> Tensor:
        chosen = torch.from_numpy(np.where(self.place.gate < 0, self.padded.shape[1] - 1, self.place.gate))
        wide = [1] * value.ndim
        wide[0], wide[self.place.axis] = len(value), len(chosen)
        return value * self.padded.index_select(1, chosen).reshape(wide)


@contextmanager
def _differentiably() -> Iterator[None]:
    with KeepingFloat64(), ExplicitAttention(), ConstantConvolutions():
        yield


def _joined(parts: list[Tensor]) -> Array:
    made: Array = torch.cat(parts, 1).contiguous().numpy()
    return made
