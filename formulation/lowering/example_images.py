"""Example images and other arrays of a caller as plain numbers: off the tape, on the CPU, of types that numpy knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from formulation.errors import InvalidImages
from tracing import first_line

OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def off_the_tape(values: Any) -> Any:
    """A tensor's values where numpy can read them: detached, on the CPU, bfloat16 in float64; others as given.

    Args:
        values: a tensor of any number type on any device, or anything else.
    """
    if not isinstance(values, Tensor):
        return values
    plain = values.detach().cpu()
    return plain.double() if plain.is_floating_point() and plain.dtype not in OF_NUMPY else plain


def first_image(images: Any) -> Tensor:
    """The first image alone, [1, ...] in float64.

    Args:
        images: [n, ...], a tensor or what numpy reads.

    Raises:
        InvalidImages: no images [n, ...] of finite real numbers.
    """
    try:
        array = np.asarray(off_the_tape(images))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidImages(
            f"the example cannot be read as an array ({first_line(error)}); give images [n, ...]"
        ) from error
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating) or array.dtype == bool):
        raise InvalidImages(f"the example is {array.dtype}, no real numbers; give images [n, ...]")
    if array.ndim < 2 or len(array) == 0:
        raise InvalidImages(
            f"the example is empty or has no batch dimension (shape {array.shape}); give images [n, ...]"
        )
    first = array[:1].astype(np.float64)
    if not np.isfinite(first).all():
        raise InvalidImages("the example's first image holds NaN or infinite pixels; give another one")
    return torch.as_tensor(first)
