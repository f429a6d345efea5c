"""Images and labels as the program reads them: pixels [inputs, images] in float64, labels [images] or targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidImages, InvalidModel
from formulation.lowering import are_batches, held_at_once, off_the_tape, read_network
from formulation.network import Array, Index, Labels, Network
from formulation.score_settings import ScoreSettings
from naming import DerivativesOf, GateName

LARGEST_TARGET = 1e8  # in magnitude: the square of a tenfold of it is a row that HiGHS still takes


def read_program_data(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, deadline: Deadline = NEVER
) -> tuple[Network, Array, Labels]:
    """The network and the scoring set of a score call, whatever its loss reads.

    Args:
        model, images, deadline: as for `read_scoring_data`.
        labels: [n] whole numbers; targets [n] or [n, outputs] where the loss is `squared`.
        settings: say what is held, whether the network is lowered, and what the loss reads.

    Returns:
        The network, pixels [inputs, n] and labels [n]; or, where the loss is `squared`, targets [n, outputs].

    Raises:
        InvalidModel, UnsupportedLayer, InvalidImages, InvalidSetting: as `read_scoring_data` and `checked_targets`.
        TimeLimitReached: the deadline comes first.
    """
    gate, derivatives = settings.gate, settings.derivatives
    if settings.loss == "cross_entropy":
        return read_scoring_data(model, images, labels, settings.held, deadline, gate=gate, derivatives=derivatives)
    images, labels = in_memory(images, labels)
    pixels = flatten_images(images)
    targets = checked_targets(labels, pixels.shape[1])
    network = read_network(model, images, gate, derivatives, deadline, normalised=False)
    if targets.shape[1] != network.classes:
        raise InvalidImages(
            f"targets have {targets.shape[1]} numbers per image, and the network {network.classes} outputs; give one "
            "for each"
        )
    return network.holding(settings.held), pixels, targets


def read_scoring_data(
    model: Any,
    images: Any,
    labels: Any,
    held: Sequence[str],
    deadline: Deadline = NEVER,
    *,
    gate: GateName = "published",
    derivatives: DerivativesOf = "auto",
    labelled: bool = True,
) -> tuple[Network, Array, Index]:
    """The network with the scores of some layers held at 1, and the scoring set as flat arrays.

    Args:
        model: a torch module in eval mode.
        images: [n, ...] pixels, or a DataLoader or any iterable of (images, labels), read whole; of images alone where
            labels are given, or not read.
        labels: [n] whole numbers; None where they are beside the images.
        held: names or patterns of layers whose units all stay.
        deadline: by which the network must have been read.
        gate, derivatives: say whether it is lowered, see `read_network`.
        labelled: whether the loss reads labels; where not, those that are no classes become 0, and one output will do.

    Returns:
        The network, pixels [inputs, n] and labels [n].

    Raises:
        InvalidModel, UnsupportedLayer, InvalidImages, InvalidSetting: as `lower`, `in_memory`, `flatten_images`,
            `checked_labels` and `Network.holding`.
        TimeLimitReached: the deadline comes first.
    """
    images, labels = in_memory(images, labels, labelled=labelled)
    pixels = flatten_images(images)
    quantities = not labelled and (labels is None or not np.issubdtype(_array(labels, "labels").dtype, np.integer))
    classes = np.zeros(pixels.shape[1], np.int64) if quantities else checked_labels(labels, pixels.shape[1])
    network = read_network(model, images, gate, derivatives, deadline)
    if network.classes == 1 and labelled:
        # The cross-entropy of a single class is 0 whatever the scores: every unit would seem removable.
        raise InvalidModel(
            "the network has one output, over which labels are no classes; append nn.Linear(1, 2, bias=False) with "
            "weight [[0], [1]] to what it returns before any sigmoid: its softmax is the sigmoid of your output; where "
            "the output is a quantity, set loss='squared' and give targets"
        )
    return network.holding(held), pixels, classes


def in_memory(images: Any, labels: Any, *, labelled: bool = True) -> tuple[Any, Any]:
    """Images and labels as arrays or what becomes one; loaders and iterators are read whole, once.

    Args:
        images, labels, labelled: as for `read_scoring_data`; batches may be of images alone where labels are given, or
            the loss reads none.

    Raises:
        InvalidImages: labels are missing, or there twice, or batches that do not go together.
    """
    if not are_batches(images) and (labels is not None or not labelled):
        return images, labels
    images, beside = held_at_once(images, labelled=labelled and labels is None)
    if labels is not None and beside is not None:
        raise InvalidImages("the batches hold labels, and labels are given too; give labels=None")
    return images, beside if labels is None else labels


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
        raise InvalidImages(
            f"labels are {array.dtype}; give whole numbers, the class of each image{_as_classes(array)}"
        )
    return array.astype(np.int64)


def _as_classes(labels: np.ndarray) -> str:
    """How such labels become classes, or what takes them as they are."""
    if labels.dtype == bool or (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        return ", as labels.long() does"
    return "; the loss is the cross-entropy over classes: for quantities set loss='squared'"


def checked_targets(targets: Any, images: int) -> Array:
    """Quantities for the squared loss, [images, outputs].

    Args:
        targets: [n] or [n, outputs], real numbers.
        images: n.

    Raises:
        InvalidImages: another number of targets than of images, whole numbers, NaN or infinite ones, or such as are
            beyond LARGEST_TARGET.
    """
    array = _array(targets, "targets")
    if array.ndim not in (1, 2) or len(array) != images or not array.size:
        raise InvalidImages(
            f"{images} images but targets of shape {array.shape}; give one real number, or one row of them, per image"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidImages(
            f"targets are {array.dtype}, and loss='squared' reads quantities; give targets.float() where they are, "
            "and where they are classes set loss='cross_entropy'"
        )
    rows = array.astype(np.float64).reshape(images, -1)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise InvalidImages(
            f"the target of image {int(np.argmax(bad))} is NaN or infinite ({int(bad.sum())} images' are); remove them"
        )
    beyond = np.abs(rows) > LARGEST_TARGET
    if beyond.any():
        image, output = (int(each) for each in np.argwhere(beyond)[0])
        raise InvalidImages(
            f"the target of image {image} is {rows[image, output]:g}, and solvers hold the squares of targets of at "
            f"most {LARGEST_TARGET:.0e}; divide the targets and the network's outputs by one number"
        )
    return rows


def require_fit(network: Network, pixels: Array, labels: Labels, settings: ScoreSettings) -> None:
    """Raise InvalidImages where a scoring set does not fit the network and the settings.

    Args:
        network: whose classes the labels are of.
        pixels: [inputs, n].
        labels: [n], or targets [n, outputs], which have been read for it.
        settings: with the range that pixels have.

    Raises:
        InvalidImages: labels out of range, or pixels outside their range, which the box would clip.
    """
    if settings.loss == "cross_entropy" and (labels.min() < 0 or labels.max() >= network.classes):
        bad = labels[(labels < 0) | (labels >= network.classes)]
        raise InvalidImages(f"label {int(bad[0])} is out of range; the network has classes 0 to {network.classes - 1}")
    low, high = settings.pixel_range
    if settings.radius > 0 and (pixels.min() < low or pixels.max() > high):
        raise InvalidImages(
            f"pixels range over [{pixels.min():.4g}, {pixels.max():.4g}], outside pixel_range=({low:g}, {high:g}); "
            "normalise inside the model, set pixel_range, or set radius=0"
        )


def images_digest(pixels: Array, labels: Labels) -> str:
    """SHA-256 over pixels and labels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + labels.tobytes()).hexdigest()
