"""Inputs of a transfer: data sets of one shape, networks that take a mask, a mask of an earlier run."""

from torch import nn

import formulation
import training
from flows import tracking
from flows.adapters import artifacts, dataset_of, network_of
from flows.config import Settings
from flows.errors import ArtifactError, SettingsError
from flows.tracking import Run
from training import Dataset, MaskError, Masks, UnsupportedGraph

ARM = "arm"
LEAVES_MASKS = ("prune", "gradual", "retrain")


def with_shape(settings: Settings) -> Settings:
    """The settings with size and channels of the images said, those of the first data set where they were not.

    Raises SettingsError where its images are not square and those of the target have another shape, TrainingError.
    """
    if settings.image_size and settings.channels:
        return settings
    channels, height, width = dataset_of(settings).input_shape
    settings = settings.model_copy(update={"channels": channels})
    if height == width:
        return settings.model_copy(update={"image_size": height})
    shape = dataset_of(on_target(settings)).input_shape
    if shape[1:] != (height, width):
        raise SettingsError(
            f"dataset={settings.dataset} has images of {height}x{width}, target={settings.target} of "
            f"{shape[1]}x{shape[2]}: give image_size, so that the same initial weights fit both"
        )
    return settings


def on_target(settings: Settings) -> Settings:
    """The settings of whatever is trained on the target; a network with other classes gets a new output layer."""
    return settings.model_copy(update={"dataset": settings.target, "new_head": True})


def carried(settings: Settings, uri: str) -> Run:
    """The run whose masks are carried over: `settings.mask_run`, or a stage that belongs to it.

    Raises ArtifactError where there is no such run in the store at `uri`, or none that left masks.
    """
    tracking.require_store(uri, f"mask_run={settings.mask_run}")
    tracking.reach_store(uri)
    try:
        run = tracking.find_run(uri, settings.mask_run)
        # The arms below one run have different masks: one of them is meant only where it is named itself.
        itself = run.tags().get("stage") == ARM
        return tracking.find_stage(run, *((ARM,) if itself else LEAVES_MASKS))
    except ArtifactError as error:
        raise ArtifactError(f"mask_run={settings.mask_run}: {error}") from error


def require_transfer(settings: Settings, uri: str) -> Dataset:
    """The target's data; raises what settings of :func:`with_shape` have against a transfer.

    That is SettingsError, TrainingError, and ArtifactError for a mask of an earlier run that does not fit.
    """
    if settings.target == settings.dataset:
        raise SettingsError(f"target={settings.target} is dataset too: give another data set to train on")
    if settings.epochs < 1:
        raise SettingsError("epochs=0: every arm of a transfer is trained; give 1 or more")
    if settings.rewind_epochs > settings.epochs:
        raise SettingsError(
            f"rewind_epochs={settings.rewind_epochs} is more than epochs={settings.epochs}: give fewer, or 0 for none"
        )
    dataset = dataset_of(on_target(settings))
    network = network_of(settings, dataset_of(settings))
    if len(dataset_of(settings).classes) != len(dataset.classes):
        example = dataset.train.images[:1]
        network = training.with_new_head(network, len(dataset.classes), example, seed=settings.seed)
    if settings.mask_run:
        found = carried(settings, uri)
        _require_fit(settings, network, artifacts.logged_masks(found), dataset)
    return dataset


def _require_fit(settings: Settings, network: nn.Module, masks: Masks, dataset: Dataset) -> None:
    example = dataset.train.images[:1]
    where = f"mask_run={settings.mask_run}: its mask does not fit {settings.model} on {settings.target}"
    remedy = "give the run of a mask for this network, or its image_size and channels"
    try:
        training.prune(network, masks, example)
    except (MaskError, UnsupportedGraph) as error:
        raise ArtifactError(f"{where} ({error}); {remedy}") from error
    units = formulation.outline(network, example).units
    if differing := ", ".join(sorted(masks.keys() ^ units.keys())):
        # A network of another depth may have layers of the same names and widths.
        raise ArtifactError(f"{where} (masked or scored, but not both: {differing}); {remedy}")
