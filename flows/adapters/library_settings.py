"""The settings in the two libraries' own words: data, networks, and how to fit and score."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import training
from flows.config import CONTROLS, DataPart, ExperimentPart, PrunePart, RunPart, Settings, SettingsGroup, numbers_of
from flows.errors import SettingsError
from flows.tracking import load_logged_network
from flows.tracking.stores import store_uri
from formulation import ScoreSettings
from naming import USUAL_IMAGES_PER_CLASS
from training import Dataset, Exported, ExportError, FitSettings, ImageShapeError, Limits, ScoringSet

LOG = logging.getLogger(__name__)

MODEL_URIS = ("models:/", "runs:/")
ALL_RULES = "all"
REFIT_DRAW = 1  # tells the draw of refit images apart from others of the same seed
TRIES = 100  # masks tried after each of many small removals, where nothing else is said
EXPORTERS: Mapping[str, Callable[..., Exported]] = {
    "torch": training.export_program,
    "onnx": training.export_onnx,
}
DEFAULT_DATA_ROOT = Path.home() / ".cache" / "critical-neurons" / "data"


def dataset_of(settings: Settings) -> Dataset:
    """The settings' data set, seeded; raises TrainingError."""
    return kept_dataset(
        settings.dataset,
        str(data_folder(settings)),
        settings.seed,
        settings.image_size or None,
        settings.channels or None,
        settings.limit or None,
    )


def data_folder(settings: DataPart) -> Path:
    """The folder of the data sets: as given, else $DATA_ROOT, else one in the home folder; absolute."""
    root = settings.data_root or os.environ.get("DATA_ROOT") or str(DEFAULT_DATA_ROOT)
    return Path(root).expanduser().resolve()


# The stages of a flow read the same data, of which transfer has two sets; the values are never changed in place.
@lru_cache(maxsize=2)
def kept_dataset(name: str, root: str, seed: int, size: int | None, channels: int | None, limit: int | None) -> Dataset:
    return training.load(name, root=root, seed=seed, image_size=size, channels=channels, limit=limit)


def network_of(settings: Settings, dataset: Dataset) -> nn.Module:
    """The settings' network with its first weights, in evaluation mode; raises TrainingError and FlowError."""
    try:
        return network_for(settings, dataset.train.images[:1], len(dataset.classes))
    except ImageShapeError as error:
        own = " (digits are 8x8, enlarged to 28x28: image_size=8 leaves them)" if dataset.name == "digits" else ""
        raise ImageShapeError(f"{error}, by image_size=<pixels> and channels=1 or 3{own}") from error


def network_for(settings: Settings, example: Tensor, classes: int) -> nn.Module:
    """As `network_of`, for images [n, C, H, W] like the example and so many classes, without the data set."""
    network = _plain_network(settings, example, classes)
    mean, std = numbers_of(settings.mean), numbers_of(settings.std)
    if not mean and not std:
        return network
    if not mean or not std:
        raise SettingsError(f"mean={settings.mean or 'none'} and std={settings.std or 'none'}: give both, or neither")
    return training.normalise_images(network, mean, std, example.shape[1]).eval()


def _plain_network(settings: Settings, example: Tensor, classes: int) -> nn.Module:
    """The network as it was built or logged, which takes images as `mean` and `std` leave them."""
    checkpoint = settings.checkpoint or None
    if not settings.model.startswith(MODEL_URIS):
        channels, height, width = example.shape[1:]
        return training.build(
            settings.model,
            input_shape=(channels, height, width),
            classes=classes,
            seed=settings.seed,
            checkpoint=checkpoint,
            new_head=settings.new_head,
        ).eval()
    network = load_logged_network(store_uri(settings.tracking_uri), settings.model, allow_pickle=settings.allow_pickle)
    if checkpoint:
        network = training.load_checkpoint(network, checkpoint)
    outputs = training.predict(network, example[:1]).shape[1]
    if outputs != classes and settings.new_head:
        network = training.with_new_head(network, classes, example[:1], seed=settings.seed)
    elif outputs != classes:
        found = f"{outputs} outputs, the data set {classes} classes"
        raise SettingsError(f"model={settings.model} has {found}: choose a data set that fits")
    return network.eval()


def device_of(settings: RunPart) -> str:
    """The device by name, `auto` resolved; raises TrainingError where there is no such device."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return str(training.find_device(name))


def fit_settings_of(settings: Settings, epochs: int) -> FitSettings:
    """How to fit; raises TrainingError."""
    own: dict[str, Any] = {"epochs": epochs, "device": device_of(settings)}
    return FitSettings(**_fields_of(FitSettings, settings.fit, settings.run, but=own), **own)


def score_settings_of(settings: Settings) -> ScoreSettings:
    """How to score; raises FormulationError."""
    options = json.loads(settings.solver_options)
    own: dict[str, Any] = {"solver_options": options}
    return ScoreSettings(**_fields_of(ScoreSettings, settings.score, settings.run, but=own), **own)


def _fields_of(
    kind: type[ScoreSettings] | type[FitSettings], *parts: SettingsGroup, but: Mapping[str, object]
) -> dict[str, Any]:
    """The settings of these parts that a library has under the same name, but for some."""
    names = {each.name for each in fields(kind)} - set(but)
    return {name: getattr(part, name) for part in parts for name in type(part).model_fields if name in names}


def exports_of(settings: PrunePart) -> tuple[str, ...]:
    """The runtimes that the compacted network is exported for."""
    return tuple(kind for kind in EXPORTERS if settings.export in (kind, "all"))


def export(
    kind: str, network: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None
) -> Exported:
    """Write a network for a runtime, compared with torch; raises ExportError with the setting that leaves it out."""
    try:
        return EXPORTERS[kind](network, example, path, metadata=metadata)
    except ExportError as error:
        raise ExportError(f"{error}; export={'torch' if kind == 'onnx' else 'none'} leaves it out") from error


def scoring_sets_of(
    settings: Settings, network: nn.Module, dataset: Dataset, *, correct_only: bool = True, balanced: bool = True
) -> tuple[ScoringSet, ...]:
    """The settings' scoring sets, of validation images that the network classifies correctly, or of any.

    Not balanced, a set has as many images in all, of whatever classes. Fewer than the usual number of images of each
    class where the network is right about no more, with a warning. Raises TrainingError.
    """
    sets = training.draw_sets(
        network,
        dataset.validation,
        sets=settings.scoring_sets,
        images_per_class=settings.images_per_class,
        classes=dataset.classes,
        seed=settings.seed if settings.sets_seed < 0 else settings.sets_seed,
        order=settings.order,
        correct_only=correct_only,
        balanced=balanced,
        fewer=takes_fewer(settings),
        device=device_of(settings),
        batch_size=settings.batch_size,
    )
    each = len(sets[0]) // len(dataset.classes)
    if each < settings.images_per_class:
        LOG.warning(
            "sample   %d images of each class instead of the usual %d: no more of one class are %s",
            *(each, settings.images_per_class, "classified correctly" if correct_only else "there"),
        )
    return sets


def takes_fewer(settings: Settings) -> bool:
    """Whether a set may have fewer images of each class: the usual number is the most, any other one is kept to."""
    return settings.images_per_class == USUAL_IMAGES_PER_CLASS


def refit_images_of(settings: Settings, dataset: Dataset) -> Tensor:
    """The training images that survivors are fitted to, a seeded draw without labels; all where there are no more."""
    drawn = np.random.default_rng([settings.seed, REFIT_DRAW]).permutation(len(dataset.train))[: settings.refit_images]
    return dataset.train.images[torch.from_numpy(np.sort(drawn))]


def limits_of(settings: PrunePart) -> Limits:
    """What no selection may remove."""
    return Limits(settings.floor, settings.round_to, split_names(settings.leave_alone))


def rules_of(settings: PrunePart) -> tuple[str, ...]:
    """The rules to compare with, each once."""
    names = split_names(settings.compare)
    return CONTROLS if names == (ALL_RULES,) else tuple(dict.fromkeys(names))


def thresholds_of(settings: ExperimentPart) -> tuple[float, ...]:
    """The thresholds of a table, in their order."""
    return tuple(float(word) for word in split_names(settings.thresholds))


def swap_tries_of(settings: PrunePart) -> int:
    """How many masks are tried by swapping units after a removal."""
    if settings.exchange >= 0:
        return settings.exchange
    chosen_after_refit = settings.selection == "program" and settings.refit != "false"
    return TRIES if settings.schedule == "iterative" or chosen_after_refit else 0


def split_names(words: str) -> tuple[str, ...]:
    """The items of a list by commas."""
    return tuple(name.strip() for name in words.split(",") if name.strip())
