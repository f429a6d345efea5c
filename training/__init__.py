"""Data, models, training and pruning in torch; knows nothing of the program, of tracking or of flows.

Import order inside the room (a module imports only modules before it): errors, digests, devices, splits, sources,
folders, data, inference, sampling, checkpoints, own_models, models, pruning/, loop. The loop comes after pruning/
because it keeps removed units removed while it trains.
"""

from training.checkpoints import load_checkpoint, save_checkpoint
from training.data import DATASETS, load
from training.devices import find_device, torch_threads
from training.digests import model_digest
from training.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    LabelError,
    MaskError,
    ModelError,
    PruningError,
    SamplingError,
    SelectionError,
    SettingsError,
    TrainingDiverged,
    TrainingError,
    UnknownDataset,
    UnknownModel,
    UnsupportedGraph,
)
from training.inference import predict
from training.loop import Epoch, Evaluation, FitResult, FitSettings, evaluate, fit
from training.models import MODELS, build
from training.pruning import (
    RULES,
    Evidence,
    LayerRemoval,
    Masks,
    Removal,
    Rule,
    Scores,
    Selection,
    by_counts,
    by_threshold,
    consumers,
    counts,
    draw_scores,
    load_masks,
    masks_digest,
    prune,
    removal,
    save_masks,
    validate_masks,
)
from training.sampling import ScoringSet, draw, draw_sets
from training.splits import Dataset, Split

__all__ = [
    "DATASETS",
    "MODELS",
    "RULES",
    "CheckpointError",
    "DataError",
    "Dataset",
    "DeviceError",
    "Epoch",
    "Evaluation",
    "Evidence",
    "FitResult",
    "FitSettings",
    "LabelError",
    "LayerRemoval",
    "MaskError",
    "Masks",
    "ModelError",
    "PruningError",
    "Removal",
    "Rule",
    "SamplingError",
    "Scores",
    "ScoringSet",
    "Selection",
    "SelectionError",
    "SettingsError",
    "Split",
    "TrainingDiverged",
    "TrainingError",
    "UnknownDataset",
    "UnknownModel",
    "UnsupportedGraph",
    "build",
    "by_counts",
    "by_threshold",
    "consumers",
    "counts",
    "draw",
    "draw_scores",
    "draw_sets",
    "evaluate",
    "find_device",
    "fit",
    "load",
    "load_checkpoint",
    "load_masks",
    "masks_digest",
    "model_digest",
    "predict",
    "prune",
    "removal",
    "save_checkpoint",
    "save_masks",
    "torch_threads",
    "validate_masks",
]
