"""Example images and other arrays of a caller as plain numbers: off the tape, on the CPU, of types that numpy knows."""

from __future__ import annotations

from collections.abc import Iterable
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


def are_batches(data: Any) -> bool:
    """Whether data are a loader, an iterator or a list of (images, labels), and not images themselves."""
    if isinstance(data, list | tuple):
        first = data[0] if data else None
        if not isinstance(first, tuple | list) or len(first) != 2 or not isinstance(first[0], Tensor | np.ndarray):
            return False
        # A list of lists may be images; what stands beside them has another form where it is labels.
        return isinstance(first, tuple) or np.shape(first[0]) != np.shape(first[1])
    return isinstance(data, Iterable) and not isinstance(data, str) and not hasattr(data, "__array__")


def held_at_once(data: Any, *, labelled: bool = True) -> tuple[Any, Any]:
    """Images and labels of batches, each as one array.

    Args:
        data: a DataLoader or any iterable of (images, labels).
        labelled: whether labels must be there; where not, batches may be of images alone, and labels then None.

    Raises:
        InvalidImages: what holds no such batches, or batches that do not go together.
    """
    if isinstance(data, Tensor | np.ndarray | str) or not isinstance(data, Iterable):
        raise InvalidImages("labels are missing; give them, or a DataLoader or an iterable of (images, labels)")
    batches = [tuple(each) if isinstance(each, tuple | list) else (each,) for each in data]
    parts = {len(each) for each in batches}
    if parts != {2} and (labelled or parts != {1}):
        of = "(images, labels)" if labelled else "images, or of (images, labels),"
        raise InvalidImages(f"the data hold no batches of {of}; give a DataLoader or an iterable of these")
    try:
        images, *labels = (
            np.concatenate([np.asarray(off_the_tape(each)) for each in part]) for part in zip(*batches, strict=True)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidImages(
            f"the batches cannot be put together ({first_line(error)}); make their images alike"
        ) from error
    return images, labels[0] if labels else None


def _first_batch(data: Any) -> Any:
    """The images of the first batch of a loader, or of a list of (images, labels); arrays as given."""
    if not are_batches(data):
        return data
    first: Any = next(iter(data), [])
    return first[0] if isinstance(first, tuple | list) and first else first


def first_image(images: Any) -> Tensor:
    """The first image alone, [1, ...] in float64.

    Args:
        images: [n, ...], a tensor or what numpy reads; or a loader of such, with or without labels.

    Raises:
        InvalidImages: no images [n, ...] of finite real numbers.
    """
    try:
        array = np.asarray(off_the_tape(_first_batch(images)))
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
