"""Images and labels as the program reads them: pixels [inputs, images] in float64, labels [images]."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from formulation.errors import InvalidImages
from formulation.lowering import lower
from formulation.network import Array, Index, Network
from formulation.settings import ScoreSettings


def read(model: Any, images: Any, labels: Any, held: Sequence[str]) -> tuple[Network, Array, Index]:
    """The lowered network with the scores of some layers held at 1, pixels [inputs, images] and labels [images].

    Raises what lowering, holding and reading raise.
    """
    pixels = flatten_images(images)
    classes = checked_labels(labels, pixels.shape[1])
    return lower(model, images).holding(held), pixels, classes


def flatten_images(images: Any) -> Array:
    """Images [n, ...] as pixels [inputs, n].

    Raises:
        InvalidImages: an empty scoring set, pixels that are no real numbers, or NaN or infinite ones, with the first
            image that holds one.
    """
    array = _array(images, "images").astype(np.float64)
    if array.ndim < 2 or len(array) == 0:
        raise InvalidImages(
            f"the scoring set is empty or has no batch dimension (shape {array.shape}); give images [n, ...]"
        )
    flat = array.reshape(len(array), -1)
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        raise InvalidImages(
            f"image {int(np.argmax(bad))} holds NaN or infinite pixels ({int(bad.sum())} images do); remove them"
        )
    return np.ascontiguousarray(flat.T)


def _array(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidImages(f"{what} cannot be read as an array ({error}); give a CPU tensor or an array") from error
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InvalidImages(f"{what} are {array.dtype}, not numbers; give a tensor or an array")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InvalidImages(f"{what} are {array.dtype}; give real numbers")
    return array


def checked_labels(labels: Any, images: int) -> Index:
    """Labels as whole numbers, one per image; raises InvalidImages."""
    array = _array(labels, "labels")
    if array.shape != (images,):
        raise InvalidImages(f"{images} images but labels of shape {array.shape}; give one label per image")
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidImages(f"labels are {array.dtype}; give whole numbers")
    return array.astype(np.int64)


def require_fit(network: Network, pixels: Array, labels: Index, settings: ScoreSettings) -> None:
    """Raise InvalidImages where labels are out of range, or pixels outside their range would be clipped by the box."""
    if labels.min() < 0 or labels.max() >= network.classes:
        bad = labels[(labels < 0) | (labels >= network.classes)]
        raise InvalidImages(f"label {int(bad[0])} is out of range; the network has classes 0 to {network.classes - 1}")
    low, high = settings.pixel_range
    if settings.radius > 0 and (pixels.min() < low or pixels.max() > high):
        raise InvalidImages(
            f"pixels range over [{pixels.min():.4g}, {pixels.max():.4g}], outside pixel_range=({low:g}, {high:g}); "
            "normalise inside the model, set pixel_range, or set radius=0"
        )


def images_digest(pixels: Array, labels: Index) -> str:
    """SHA-256 over pixels and labels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + labels.tobytes()).hexdigest()
