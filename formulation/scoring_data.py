"""Images and labels as the program reads them: pixels [inputs, images] in float64, labels [images]."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidImages, InvalidModel
from formulation.lowering import off_the_tape, read_network
from formulation.network import Array, Index, Network
from formulation.score_settings import ScoreSettings
from naming import DerivativesOf, GateName


def read_scoring_data(
    model: Any,
    images: Any,
    labels: Any,
    held: Sequence[str],
    deadline: Deadline = NEVER,
    *,
    gate: GateName = "published",
    derivatives: DerivativesOf = "auto",
) -> tuple[Network, Array, Index]:
    """The network with the scores of some layers held at 1, and the scoring set as flat arrays.

    Args:
        model: a torch module in eval mode.
        images: [n, ...] pixels.
        labels: [n] whole numbers.
        held: names or patterns of layers whose units all stay.
        deadline: by which the network must have been read.
        gate, derivatives: say whether it is lowered, see `read_network`.

    Returns:
        The network, pixels [inputs, n] and labels [n].

    Raises:
        InvalidModel, UnsupportedLayer, InvalidImages, InvalidSetting: as `lower`, `flatten_images`, `checked_labels`
        and
            `Network.holding`.
        TimeLimitReached: the deadline comes first.
    """
    pixels = flatten_images(images)
    classes = checked_labels(labels, pixels.shape[1])
    network = read_network(model, images, gate, derivatives, deadline)
    if network.classes == 1:
        # The cross-entropy of a single class is 0 whatever the scores: every unit would seem removable.
        raise InvalidModel(
            "the network has one output, over which labels are no classes; append nn.Linear(1, 2, bias=False) with "
            "weight [[0], [1]]: its softmax is the sigmoid of your output"
        )
    return network.holding(held), pixels, classes


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
        array = np.asarray(off_the_tape(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidImages(f"{what} cannot be read as an array ({error}); give a tensor or an array") from error
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InvalidImages(f"{what} are {array.dtype}, not numbers; give a tensor or an array")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InvalidImages(f"{what} are {array.dtype}; give real numbers")
    return array


def checked_labels(labels: Any, images: int) -> Index:
    """Labels as whole numbers, one per image.

    Args:
        labels: [n].
        images: n.

    Raises:
        InvalidImages: another number of labels than of images, or labels that are no whole numbers.
    """
    array = _array(labels, "labels")
    if array.ndim == 2 and len(array) == images and array.shape[1] > 1:
        raise InvalidImages(
            f"labels of shape {array.shape} are one row per image; give one label per image, as labels.argmax(1) does"
        )
    if array.shape != (images,):
        column = ", as labels.reshape(-1) does" if array.shape == (images, 1) else ""
        raise InvalidImages(f"{images} images but labels of shape {array.shape}; give one label per image{column}")
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidImages(f"labels are {array.dtype}; give whole numbers, the class of each image")
    return array.astype(np.int64)


def require_fit(network: Network, pixels: Array, labels: Index, settings: ScoreSettings) -> None:
    """Raise InvalidImages where a scoring set does not fit the network and the settings.

    Args:
        network: whose classes the labels are of.
        pixels: [inputs, n].
        labels: [n].
        settings: with the range that pixels have.

    Raises:
        InvalidImages: labels out of range, or pixels outside their range, which the box would clip.
    """
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
