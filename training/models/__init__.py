"""Models by name: the paper's networks, torchvision's, or a person's own through `package.module:factory`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from training.checkpoints import load_checkpoint
from training.errors import ModelError, SettingsError, UnknownModel
from training.heads import with_new_head
from training.inference import check_forward
from training.models.of_torchvision import PREFIX, make_torchvision
from training.models.resnet import BLOCKS, make_resnet
from training.models.small import HIDDEN, make_dense, make_lenet5
from training.models.vgg import PLAIN, STAGES, make_vgg
from training.models.widths import MARK, read_width
from training.own_models import call_factory

VGG16_PLAIN = f"vgg16{PLAIN}"
OF_ANY_WIDTH = (*STAGES, VGG16_PLAIN, *BLOCKS)
MODELS = (*HIDDEN, "lenet5", *OF_ANY_WIDTH)


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    seed: int,
    checkpoint: str | Path | None = None,
    new_head: bool = False,
) -> nn.Module:
    """A model for images of `input_shape` (C, H, W) and this many classes, its first weights drawn from `seed`.

    - "fc2": one hidden layer of 300 units (as in the paper, the number counts the output layer); "fc3": 300-100;
      "fc4": 200-100-100; children flatten, fc1, relu1, fc2, ..., output.
    - "lenet5": 6 and 16 convolutions 5x5, each with ReLU and a 2x2 average pool, then 120-84; children conv1, relu1,
      pool1, ..., flatten, fc1, ..., output.
    - "vgg7", "vgg16", "vgg19": 3x3 convolutions with BatchNorm, two hidden layers of 512; "vgg16_plain" is vgg16
      without BatchNorm. "resnet20", "resnet56": residual networks of 16, 32 and 64 feature maps.
    - "vgg16@0.25": any of these vgg and resnet with every hidden width multiplied by the number behind "@", feature
      maps and hidden layers alike, rounded, at least 1.
    - "torchvision:<name>": a classification model of torchvision, such as "torchvision:resnet18".
    - "package.module:factory" or "path/to/file.py:factory": a factory called without arguments.
    - `checkpoint`: a file with the state dict to load, see `load_checkpoint`.
    - `new_head`: where the model with its checkpoint has another number of outputs than there are classes, its last
      layer is drawn anew from `seed`, see `with_new_head`.

    torch's global generator is left as it was. Raises UnknownModel, ModelError where the model cannot be built or
    does not fit the images or classes, CheckpointError, and SettingsError for a value out of range.
    Source: ElAraby, Wolf, Carvalho, "Identifying Critical Neurons in ANN Architectures using Mixed Integer
    Programming", CPAIOR 2023.
    """
    if classes < 2 or len(input_shape) != 3 or min(input_shape) < 1 or seed < 0:
        raise SettingsError(
            f"input_shape={tuple(input_shape)}, classes={classes}, seed={seed}: needed are three positive sizes "
            f"(C, H, W), 2 or more classes and a seed of 0 or more"
        )
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
    if network in BLOCKS:
        return make_resnet(input_shape, BLOCKS[network], classes, width=width)
    return make_vgg(input_shape, STAGES[network.removesuffix(PLAIN)], classes, norm=network in STAGES, width=width)


def _network_of(name: str) -> tuple[str, float]:
    """The built-in network of this name and its width; raises UnknownModel."""
    network, mark, _ = name.partition(MARK)
    if network not in MODELS:
        near = get_close_matches(network.lower(), MODELS, n=1, cutoff=0.5)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
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
