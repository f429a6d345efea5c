"""Networks drawn at random from the op table, and how far what must be equal of each is apart."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from formulation import ScoreSettings, Solution, lower, score
from formulation.lowering import differentiable
from formulation.network import Network
from tests.formulation.lowering.op_forms import FORMS, PIXELS
from tests.formulation.lowering.test_lowering import pictures, shaken
from training import ExportError, compact, export_onnx, prune
from training.errors import ModelError

ROUNDING = ("to", "float")  # in torch, not in the network
# Behind a ReLU the gate of `linear` stands before a second one that clips, and not behind a norm that follows: where
# torch differentiates, that would take two gates, so such forms come last.
CLIPPING = (
    *("ReLU6", "F.relu6", "Hardtanh", "F.hardtanh"),
    *("clamp", "clamp of one side", "clamp_min", "clamp_max", "clip_"),
)
CHANNELS, CLASSES = 4, 3
STEPS = ("form", "form", "form", "convolution", "residual", "depthwise", "concatenation")
SCORED = ScoreSettings(gate="linear", radius=0.0, loss_weight=5.0)


def _keeping_shape() -> tuple[str, ...]:
    """The forms whose results are again four channels of as many pixels."""
    probe = torch.rand(2, CHANNELS, PIXELS, PIXELS, dtype=torch.float64)
    made = {name: copy.deepcopy(form) for name, form in FORMS.items() if name not in ROUNDING}
    made = {name: form.double().eval() if isinstance(form, nn.Module) else form for name, form in made.items()}
    with torch.no_grad():
        return tuple(name for name, form in made.items() if form(probe.clone()).shape == probe.shape)


KEEPING = tuple(name for name in _keeping_shape() if name not in CLIPPING)
ANY = tuple(name for name in FORMS if name not in ROUNDING)


class DrawnOps(nn.Module):
    """Steps behind a convolution and a ReLU, each a form or layers of its own; two dense layers at the end."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.steps = [str(each) for each in rng.choice(STEPS, rng.integers(1, 5))]
        self.names = [str(each) for each in rng.choice(KEEPING, len(self.steps))]
        self.last = str(rng.choice(ANY))
        self.first = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.layers = nn.ModuleList(_layer_of(step) for step in self.steps)
        normed = rng.random(len(self.steps)) < 0.5
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) if each else nn.Identity() for each in normed)
        self.forms = [copy.deepcopy(FORMS[name]) for name in (*self.names, self.last)]
        self.of_forms = nn.ModuleList(form for form in self.forms if isinstance(form, nn.Module))
        self.double()
        width = self.features(torch.zeros(2, 1, PIXELS, PIXELS, dtype=torch.float64)).shape[1]
        self.hidden, self.out = nn.Linear(width, 5), nn.Linear(5, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        for step, layer, norm, form in zip(self.steps, self.layers, self.norms, self.forms, strict=False):
            match step:
                case "form":
                    x = form(x)
                case "residual":
                    x = torch.relu(x + norm(layer(x)))
                case "concatenation":
                    x = torch.cat([x[:, :2], torch.relu(norm(layer(x)))[:, :2]], 1)
                case _:
                    x = torch.relu(norm(layer(x)))
        made: Tensor = self.forms[-1](x)
        return made.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.relu(self.hidden(self.features(x))))
        return logits


def _layer_of(step: str) -> nn.Module:
    if step == "form":
        return nn.Identity()
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS if step == "depthwise" else 1)


def drawn_network(seed: int) -> tuple[nn.Module, Tensor]:
    """A network in float64 and evaluation mode, with three images of its own."""
    torch.manual_seed(seed)
    return shaken(DrawnOps(seed), seed).double().eval(), pictures(seed, 1, PIXELS, PIXELS)


def differences(seed: int, folder: Path | None = None) -> dict[str, float]:
    """By what is compared the largest difference, relative to the largest logit; -1 where there is nothing to compare.

    Args:
        seed: of the network.
        folder: for the exported network; None exports none.
    """
    model, images = drawn_network(seed)
    network = lower(model, images)
    pixels, logits = images.flatten(1).numpy().T, _logits(model, images)
    masks = _drawn_masks(network, seed)
    masked = prune(model, masks, images)
    expected, compacted = _logits(masked, images), compact(model, masks, images)
    found = {
        "lowered": _apart(network.evaluate(pixels), logits),
        "masked": _apart(network.evaluate(pixels, masks), expected),
        "compacted": _apart(_logits(compacted, images), expected),
        "differentiated": _first_order_apart(model, images, network),
    }
    if folder is not None:
        found["exported"] = _exported_apart(compacted, images, folder / "network.onnx")
    return found


def _exported_apart(compacted: nn.Module, images: Tensor, path: Path) -> float:
    """Between torch and ONNX Runtime, as the export itself measures it before it keeps the file."""
    try:
        return export_onnx(compacted.float(), images.float(), path).max_difference
    except (ExportError, ModelError) as error:  # torch.export cannot follow the form, or it holds constants in float64
        if "cannot" not in str(error):
            raise
        return -1.0


def _drawn_masks(network: Network, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = {layer: rng.random(units) < 0.6 for layer, units in network.units.items()}
    for mask in masks.values():
        mask[rng.integers(len(mask))] = True
    return masks


def _first_order_apart(model: nn.Module, images: Tensor, network: Network) -> float:
    """Between the objectives of `linear` by both kinds of derivatives, where both score the same layers."""
    labels = model(images).argmax(1)
    if differentiable(model, images).units != network.units:
        return -1.0
    by_kind = [_scored(model, images, labels, kind) for kind in ("lowering", "autograd")]
    one, other = (each.certificate.objective for each in by_kind)
    return abs(one - other) / max(1.0, abs(one))


def _scored(model: nn.Module, images: Tensor, labels: Tensor, kind: str) -> Solution:
    return score(model, images, labels, ScoreSettings(**{**_fields(SCORED), "derivatives": kind}))


def _fields(settings: ScoreSettings) -> Mapping[str, object]:
    return {name: getattr(settings, name) for name in ("gate", "radius", "loss_weight")}


def _logits(model: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model(images.clone()).numpy().T


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
