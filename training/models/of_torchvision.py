"""torchvision's classification models by their names, with first weights of their own drawing."""

from torch import nn

from naming import did_you_mean, first_missing
from training.errors import ModelError, UnknownModel

PREFIX = "torchvision:"


def is_of_torchvision(name: str) -> bool:
    """Whether a name, prefix included, is a classification model of torchvision."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX) in _known()


def make_torchvision(name: str, classes: int) -> nn.Module:
    """The model `name` of torchvision, without trained weights and with so many outputs.

    Raises UnknownModel with the nearest name, and ModelError where torchvision cannot build it so.
    """
    if missing := first_missing("torchvision"):
        raise ModelError(f"model '{PREFIX}{name}': {missing}")
    known = _known()
    if name not in known:
        hint = did_you_mean(name, known, before=PREFIX)
        guess = f" ({hint})" if hint else ""
        raise UnknownModel(
            f"model '{PREFIX}{name}' is unknown{guess}: use a classification model of torchvision, such as "
            f"'{PREFIX}resnet18'"
        )
    import torchvision.models

    try:
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model '{PREFIX}{name}' cannot be built for {classes} classes ({error})") from error
    return model


def _known() -> list[str]:
    if first_missing("torchvision"):
        return []
    import torchvision.models  # here and above, because it takes seconds to import

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names
