"""Metadata of a final network: what whoever serves the model, or finds its file alone, must know of it."""

import json
from collections.abc import Mapping

from flows.config import Settings, data_name
from naming import __version__
from training import Dataset, Masks


def metadata_of(settings: Settings, dataset: Dataset, masks: Masks, source_run_id: str) -> dict[str, object]:
    """The metadata of a network as JSON has them.

    Args:
        settings: of the run.
        dataset: whose images [n, C, H, W] and classes the network is for.
        masks: of its units, by layer.
        source_run_id: of the MLflow run whose weights it has.

    Returns:
        `classes` by the number of their logit; `image_shape` [C, H, W]; `pixel_range`, and `mean` and `std` by channel
        with which images are normalised before they are given to the network: not at all, for it takes the pixels as
        they are; `units_kept` by layer.
    """
    channels = dataset.input_shape[0]
    return {
        "model": settings.model,
        "dataset": data_name(settings.dataset),
        "classes": list(dataset.classes),
        "image_shape": list(dataset.input_shape),
        "pixel_range": [0.0, 1.0],
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "units_kept": {layer: int(mask.sum()) for layer, mask in masks.items()},
        "source_run_id": source_run_id,
        "critical_neurons": __version__,
    }


def as_text(metadata: Mapping[str, object]) -> dict[str, str]:
    """Metadata as files of networks hold them: text as it is, all else as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
