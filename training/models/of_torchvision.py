"""torchvision's classification models by their names, with first weights of their own drawing."""

from difflib import get_close_matches

import torchvision.models
from torch import nn

from training.errors import ModelError, UnknownModel

PREFIX = "torchvision:"


def make_torchvision(name: str, classes: int) -> nn.Module:
    """The model `name` of torchvision, without trained weights and with so many outputs.

    Raises UnknownModel with the nearest name, and ModelError where torchvision cannot build it so.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        guess = f" (did you mean '{PREFIX}{near[0]}'?)" if near else ""
        raise UnknownModel(
            f"model '{PREFIX}{name}' is unknown{guess}: use a classification model of torchvision, such as "
            f"'{PREFIX}resnet18'"
        )
    try:
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model '{PREFIX}{name}' cannot be built for {classes} classes ({error})") from error
    return model
