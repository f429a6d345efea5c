"""A model's outputs without side effects: modes and devices are as before afterwards."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tracing import evaluating as evaluating
from tracing import weight_type as weight_type
from training.data import Images, Split, image_batches
from training.devices import find_device
from training.errors import ImageShapeError, LabelError, ModelError


def predict(model: nn.Module, images: Images, *, batch_size: int = 512, device: str = "cpu") -> Tensor:
    """The logits of images in evaluation mode.

    Args:
        model: left as it was.
        images: [n, C, H, W], or a DataLoader or any iterable of batches of them, with or without labels.
        batch_size: images per pass.
        device: where the passes run.

    Returns:
        [n, classes], on the CPU, in the order of the batches.

    Raises:
        DeviceError: no such device.
        DataError: data that hold no images.
        ModelError: a weight or an output is not finite, or the images do not fit the model.
    """
    place = find_device(device)
    check_finite_weights(model)
    batches = image_batches(images)
    check_forward(model, batches.first())
    placed = on_device(model, place)
    kind = weight_type(placed)
    with evaluating(placed), torch.no_grad():
        logits = torch.cat([placed(part.to(place, kind)).cpu() for part in batches.split(batch_size)])
    finite = torch.isfinite(logits).all(1)
    if not bool(finite.all()):
        raise ModelError(
            f"the model's outputs for image {int(finite.logical_not().nonzero()[0])} are NaN or infinite: "
            f"train the model again or give a sound checkpoint"
        )
    return logits


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model itself if all of it lies on the device, else a copy there."""
    # An empty tensor knows which card "cuda" without a number means.
    resolved = torch.empty(0, device=device).device
    if all(tensor.device == resolved for tensor in [*model.parameters(), *model.buffers()]):
        return model
    return copy.deepcopy(model).to(device)


def check_finite_weights(model: nn.Module) -> None:
    """Raise ModelError that names the first parameter or buffer holding a NaN or an infinite value."""
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point():
            bad = int((~torch.isfinite(value)).sum())
            if bad:
                raise ModelError(
                    f"model weight {name!r} holds {bad} NaN or infinite values of {value.numel()}: "
                    f"train the model again or give a sound checkpoint"
                )


def check_forward(model: nn.Module, images: Tensor) -> int:
    """How many classes the model tells apart, found by one forward pass of the first of the images [n, C, H, W].

    Raises ModelError where the pass fails or its result is not [1, classes].
    """
    tensor = next(model.parameters(), images)
    with evaluating(model), torch.no_grad():
        try:
            output = model(images[:1].to(tensor.device, weight_type(model)))
        except (Exception, SystemExit) as error:  # the forward may be a stranger's code and raise anything
            shape = tuple(images.shape[1:])
            raise ImageShapeError(
                f"the model cannot take images of shape {shape} ({error}): give images that fit"
            ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != 1:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(
            f"the model returns {found} for one image: it must return logits of shape [1, classes], so give a module "
            f"whose forward takes them out of it{_as_column(output)}"
        )
    return int(output.shape[1])


def _as_column(output: object) -> str:
    """What else to do about one number per image."""
    number = isinstance(output, Tensor) and output.shape == (1,)
    return "; give it as [1, 1] where it is a quantity, as logits[:, None] is" if number else ""


def check_fits(model: nn.Module, split: Split) -> None:
    """Raise ModelError where the split's images do not fit the model, LabelError where a label has no output."""
    outputs = check_forward(model, split.images)
    if int(split.labels.max()) >= outputs:
        where = int(split.labels.argmax())
        raise LabelError(
            f"image {where} has label {int(split.labels[where])} but the model has {outputs} outputs: "
            f"use a model with as many outputs as there are classes"
        )
