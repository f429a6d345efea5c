"""The settings in the two libraries' own words: data, networks, and how to fit and score."""

import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

import training
from flows.errors import SettingsError
from flows.settings import CONTROLS, Settings
from flows.tracking import load_logged_network, store_uri
from formulation import ScoreSettings
from training import Dataset, Exported, ExportError, FitSettings, Limits, ScoringSet

MODEL_URIS = ("models:/", "runs:/")
ALL_RULES = "all"
TRIES = 100  # masks tried after each of many small removals, where nothing else is said
EXPORTERS: Mapping[str, Callable[[nn.Module, Tensor, Path], Exported]] = {
    "torch": training.export_program,
    "onnx": training.export_onnx,
}
DEFAULT_DATA_ROOT = Path.home() / ".cache" / "critical-neurons" / "data"


def dataset_of(settings: Settings) -> Dataset:
    """The settings' data set, seeded; raises TrainingError."""
    return _dataset(
        settings.dataset,
        str(data_folder(settings)),
        settings.seed,
        settings.image_size or None,
        settings.channels or None,
        settings.limit or None,
    )


def data_folder(settings: Settings) -> Path:
    """The folder of the data sets: as given, else $DATA_ROOT, else one in the home folder; absolute."""
    root = settings.data_root or os.environ.get("DATA_ROOT") or str(DEFAULT_DATA_ROOT)
    return Path(root).expanduser().resolve()


# The stages of a flow read the same data, of which transfer has two sets; the values are never changed in place.
@lru_cache(maxsize=2)
def _dataset(name: str, root: str, seed: int, size: int | None, channels: int | None, limit: int | None) -> Dataset:
    return training.load(name, root=root, seed=seed, image_size=size, channels=channels, limit=limit)


def network_of(settings: Settings, dataset: Dataset) -> nn.Module:
    """The settings' network with its first weights, in evaluation mode; raises TrainingError and FlowError."""
    return network_for(settings, dataset.train.images[:1], len(dataset.classes))


def network_for(settings: Settings, example: Tensor, classes: int) -> nn.Module:
    """As `network_of`, for images [n, C, H, W] like the example and so many classes, without the data set."""
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
    network = load_logged_network(store_uri(settings.tracking_uri), settings.model)
    if checkpoint:
        network = training.load_checkpoint(network, checkpoint)
    outputs = training.predict(network, example[:1]).shape[1]
    if outputs != classes and settings.new_head:
        network = training.with_new_head(network, classes, example[:1], seed=settings.seed)
    elif outputs != classes:
        found = f"{outputs} outputs, the data set {classes} classes"
        raise SettingsError(f"model={settings.model} has {found}: choose a data set that fits")
    return network.eval()


def device_of(settings: Settings) -> str:
    """The device by name, `auto` resolved; raises TrainingError where there is no such device."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return str(training.find_device(name))


def fit_settings_of(settings: Settings, epochs: int) -> FitSettings:
    """How to fit; raises TrainingError."""
    return FitSettings(
        epochs=epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        optimiser=settings.optimiser,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        device=device_of(settings),
        threads=settings.threads,
        augment=settings.augment,
        rate_schedule=settings.rate_schedule,
        precision=settings.precision,
    )


def score_settings_of(settings: Settings) -> ScoreSettings:
    """How to score; raises FormulationError."""
    return ScoreSettings(
        loss_weight=settings.loss_weight,
        radius=settings.radius,
        gate=settings.gate,
        relax=settings.relax,
        layer_weight=settings.layer_weight,
        solver=settings.solver,
        solver_options=json.loads(settings.solver_options),
        time_limit=settings.time_limit,
        gap=settings.gap,
        cuts=settings.cuts,
        integer_scores=settings.integer_scores,
        allow_degenerate=settings.allow_degenerate,
        break_ties=settings.break_ties,
        threads=settings.threads,
    )


def exports_of(settings: Settings) -> tuple[str, ...]:
    """The runtimes that the compacted network is exported for."""
    return tuple(kind for kind in EXPORTERS if settings.export in (kind, "all"))


def export(kind: str, network: nn.Module, example: Tensor, path: Path) -> Exported:
    """Write a network for a runtime, compared with torch; raises ExportError with the setting that leaves it out."""
    try:
        return EXPORTERS[kind](network, example, path)
    except ExportError as error:
        raise ExportError(f"{error}; export={'torch' if kind == 'onnx' else 'none'} leaves it out") from error


def scoring_sets_of(
    settings: Settings, network: nn.Module, dataset: Dataset, *, correct_only: bool = True, balanced: bool = True
) -> tuple[ScoringSet, ...]:
    """The settings' scoring sets, of validation images that the network classifies correctly, or of any.

    Not balanced, a set has as many images in all, of whatever classes. Raises TrainingError.
    """
    return training.draw_sets(
        network,
        dataset.validation,
        sets=settings.scoring_sets,
        images_per_class=settings.images_per_class,
        classes=dataset.classes,
        seed=settings.seed if settings.sets_seed < 0 else settings.sets_seed,
        order=settings.order,
        correct_only=correct_only,
        balanced=balanced,
        device=device_of(settings),
        batch_size=settings.batch_size,
    )


def limits_of(settings: Settings) -> Limits:
    """What no selection may remove."""
    return Limits(settings.floor, settings.round_to, names_of(settings.leave_alone))


def rules_of(settings: Settings) -> tuple[str, ...]:
    """The rules to compare with, each once."""
    names = names_of(settings.compare)
    return CONTROLS if names == (ALL_RULES,) else tuple(dict.fromkeys(names))


def thresholds_of(settings: Settings) -> tuple[float, ...]:
    """The thresholds of a table, in their order."""
    return tuple(float(word) for word in names_of(settings.thresholds))


def tries_of(settings: Settings) -> int:
    """How many masks are tried by exchanging units after a removal."""
    if settings.exchange >= 0:
        return settings.exchange
    return TRIES if settings.schedule == "iterative" else 0


def names_of(words: str) -> tuple[str, ...]:
    """The items of a list by commas."""
    return tuple(name.strip() for name in words.split(",") if name.strip())
