"""The exceptions of this room: one line each, saying what was found, where, and what to do."""

from __future__ import annotations


class TrainingError(Exception):
    """Anything a person's input can cause in `training`; `str(error)` is one line."""

    def __init__(self, message: str) -> None:
        # Messages may quote what torch or the operating system said, which can run over several lines.
        super().__init__(" ".join(message.split()))


class FitSettingsError(TrainingError):
    """A parameter is out of its range."""


class DeviceError(TrainingError):
    """The device asked for is unknown or not available on this machine."""


class DataError(TrainingError):
    """Data is missing, truncated, unreadable, or holds values that no image or label may have."""


class UnknownDataset(DataError):
    """No data set and no folder has this name."""


class LabelError(DataError):
    """A label lies outside the classes of the data set or the outputs of the model."""


class SamplingError(TrainingError):
    """A scoring set cannot be drawn: a class is missing or too few of its images are classified correctly."""


class ModelError(TrainingError):
    """A model cannot be built, does not fit its input, or holds non-finite weights."""


class ImageShapeError(ModelError):
    """A model cannot take images of this shape."""


class UnknownModel(ModelError):
    """No built-in model has this name."""


class CheckpointError(ModelError):
    """A checkpoint cannot be read or does not fit its model."""


class ExportError(ModelError):
    """A model cannot be exported, or what was exported does not compute the same."""


class TrainingDiverged(TrainingError):
    """The loss stopped being finite."""


class PruningError(TrainingError):
    """Something about scores, masks or removal is wrong."""


class MaskError(PruningError):
    """A mask does not fit the model, or would empty a layer."""


class SelectionError(PruningError):
    """Scores or a threshold from which no masks can be made."""


class RefitError(PruningError):
    """Surviving weights that cannot be fitted anew."""


class ScheduleError(PruningError):
    """Shares that do not rise, more removals than epochs, or a step that would empty a layer."""


class UnsupportedGraph(PruningError):
    """The way a layer's units take through the model cannot be followed."""


class BlockError(TrainingError):
    """A cut that does not exist or that a branch crosses, or a block on which no head can stand."""
