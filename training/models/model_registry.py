"""Models by name: the paper's networks, torchvision's, or a person's own through `package.module:factory`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from naming import did_you_mean
from training.errors import FitSettingsError, ModelError, UnknownModel
from training.inference import check_forward
from training.memory import lacking
from training.models.architectures import (
    BLOCKS,
    BLOCKS_OF_VIT,
    HIDDEN,
    MARK,
    PLAIN,
    STAGES,
    make_dense,
    make_lenet5,
    make_resnet,
    make_vgg,
    make_vit,
    read_width,
)
from training.models.checkpoints import load_checkpoint
from training.models.of_torchvision import PREFIX, is_of_torchvision, make_torchvision
from training.models.output_layer import with_new_head
from training.models.own import call_factory

VGG16_PLAIN = f"vgg16{PLAIN}"
OF_ANY_WIDTH = (*STAGES, VGG16_PLAIN, *BLOCKS)
MODELS = (*HIDDEN, "lenet5", *OF_ANY_WIDTH, *BLOCKS_OF_VIT)


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    seed: int,
    checkpoint: str | Path | None = None,
    new_head: bool = False,
) -> nn.Module:
    """A model by name for images of one shape and so many classes; torch's global generator is left as it was.

    Args:
        name: of the architecture:
            - "fc2": one hidden layer of 300 units (as in the paper, the number counts the output layer); "fc3":
              300-100; "fc4": 200-100-100; children flatten, fc1, relu1, fc2, ..., output.
            - "lenet5": 6 and 16 convolutions 5x5, each with ReLU and a 2x2 average pool, then 120-84; children conv1,
              relu1, pool1, ..., flatten, fc1, ..., output.
            - "vgg7", "vgg16", "vgg19": 3x3 convolutions with BatchNorm, two hidden layers of 512; "vgg16_plain" is
              vgg16 without BatchNorm. "resnet20", "resnet56": residual networks of 16, 32 and 64 feature maps.
            - "vit_tiny": a vision transformer of patches 4x4, four blocks of 64 values a token, 4 heads and 128 hidden
              units; children tokens, block1, ..., norm, mean, output.
            - "vgg16@0.25": any of these vgg and resnet with every hidden width multiplied by the number behind "@",
              feature maps and hidden layers alike, rounded, at least 1.
            - "torchvision:<name>": a classification model of torchvision, such as "torchvision:resnet18".
            - "package.module:factory" or "path/to/file.py:factory": a factory called without arguments.
        input_shape: of one image, (C, H, W).
        classes: outputs.
        seed: the first weights are drawn from it.
        checkpoint: a file with the state dict to load, see `load_checkpoint`.
        new_head: where the model with its checkpoint has another number of outputs than there are classes, its last
            layer is drawn anew from `seed`, see `with_new_head`.

    Raises:
        UnknownModel: a name that is none.
        ModelError: the model cannot be built, or does not fit the images or classes.
        CheckpointError: as `load_checkpoint`.
        FitSettingsError: a value out of range.

    Source: ElAraby, Wolf, Carvalho, "Identifying Critical Neurons in ANN Architectures using Mixed Integer
    Programming", CPAIOR 2023.
    """
    if classes < 2 or len(input_shape) != 3 or min(input_shape) < 1 or seed < 0:
        raise FitSettingsError(
            f"input_shape={tuple(input_shape)}, classes={classes}, seed={seed}: needed are three positive sizes "
            f"(C, H, W), 2 or more classes and a seed of 0 or more"
        )
    if ":" not in name:
        _require_room(name, input_shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _make(name, input_shape, classes)
        # Inside, because lazy layers draw their weights in their first pass.
        outputs = check_forward(model, torch.zeros(1, *input_shape))
    if outputs != classes and not new_head:
        raise ModelError(f"model {name!r} has {outputs} outputs but the data has {classes} classes: make them agree")
    model = model if checkpoint is None else load_checkpoint(model, checkpoint)
    return model if outputs == classes else with_new_head(model, classes, torch.zeros(1, *input_shape), seed=seed)


def is_built_in(name: str | None) -> bool:
    """Whether the name is one of MODELS, with a width where it may have one: then no code but this room's is run."""
    try:
        return name is not None and _network_of(name)[0] in MODELS
    except UnknownModel:
        return False


def is_known(name: str) -> bool:
    """Whether the name is a built-in model or one of torchvision's: then no code but this room's and theirs is run."""
    return is_built_in(name) or is_of_torchvision(name)


def _make(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    if name.startswith(PREFIX):
        return make_torchvision(name.removeprefix(PREFIX), classes)
    if ":" in name:
        return call_factory(name)
    network, width = _network_of(name)
    if network == "lenet5":
        return make_lenet5(input_shape, classes)
    if network in HIDDEN:
        return make_dense(input_shape, HIDDEN[network], classes)
    if network in BLOCKS_OF_VIT:
        return make_vit(input_shape, BLOCKS_OF_VIT[network], classes)
    if network in BLOCKS:
        return make_resnet(input_shape, BLOCKS[network], classes, width=width)
    return make_vgg(input_shape, STAGES[network.removesuffix(PLAIN)], classes, norm=network in STAGES, width=width)


def _require_room(name: str, input_shape: tuple[int, int, int], classes: int) -> None:
    """Raise ModelError where a built-in network's weights would not fit into memory; none of them is made."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            weights = _make(name, input_shape, classes).state_dict().values()
            said = lacking(sum(value.numel() * value.element_size() for value in weights))
        except (RuntimeError, TypeError, OverflowError):  # a size beyond what torch can count
            said = "more memory than can be counted"
    if said is not None:
        raise ModelError(
            f"model {name!r} for images of {'x'.join(map(str, input_shape))} and {classes} classes would take {said}: "
            f"give a smaller image_size or a smaller model"
        )


def _network_of(name: str) -> tuple[str, float]:
    """The built-in network of this name and its width; raises UnknownModel."""
    network, mark, _ = name.partition(MARK)
    if network not in MODELS:
        elsewhere = ":" not in name and is_of_torchvision(f"{PREFIX}{name.lower()}")
        hint = f"did you mean '{PREFIX}{name.lower()}'?" if elsewhere else did_you_mean(network, MODELS)
        guess = f" ({hint})" if hint else ""
        raise UnknownModel(
            f"model {name!r} is unknown{guess}: use one of {', '.join(MODELS)}, torchvision:name, "
            f"package.module:factory, or path/to/file.py:factory"
        )
    if mark and network not in OF_ANY_WIDTH:
        raise UnknownModel(
            f"model {name!r}: {network} comes in no other width: leave {MARK!r} out, or use one of "
            f"{', '.join(OF_ANY_WIDTH)}"
        )
    return read_width(name)
