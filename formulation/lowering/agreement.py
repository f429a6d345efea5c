"""Agreement: a network gives the logits of the module that it was made of, or it is refused."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from formulation.errors import InvalidImages
from formulation.network import Array
from tracing import KeepingFloat64, first_line

AGREEMENT = 1e-8  # of a network with its module, relative to the largest logit


def random_images(example: Tensor, count: int) -> Tensor:
    """Images [count, ...] in [0, 1], always the same, of an example's [1, ...] shape."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(count, *example.shape[1:], dtype=torch.float64, generator=draw)


def outputs_of(module: nn.Module, images: Tensor) -> Array:
    """What a module returns for images [n, ...], [classes, n].

    Raises:
        InvalidImages: its forward fails for float64 images of this shape.
    """
    try:
        with torch.no_grad(), KeepingFloat64():
            outputs: Array = module(images.clone()).numpy().T  # the forward may write over its images
    except Exception as error:  # the forward is a stranger's code and may raise anything
        raise InvalidImages(
            f"the model does not take float64 images of shape {tuple(images.shape[1:])} ({first_line(error)}); "
            "check the image size, and cast to no fixed type in the forward"
        ) from error
    return outputs


def difference(logits: Array, outputs: Array, *, normalised: bool) -> float:
    """The largest difference of a network's logits from a module's outputs, both [classes, n]; 0 where they agree.

    Args:
        logits: the network's.
        outputs: the module's.
        normalised: the outputs are log-probabilities or probabilities, of which the network has the logits.
    """
    if normalised:
        logits = log_softmax(logits, axis=0)
        outputs = np.log(outputs) if (outputs >= 0).all() else outputs
    worst = float(np.abs(logits - outputs).max())
    return 0.0 if worst <= AGREEMENT * max(1.0, float(np.abs(outputs).max())) else worst
