"""VGG for small images: stages of 3x3 convolutions, each stage ended by a max-pool, and two hidden layers of 512."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from training.models.architectures.width_multipliers import widen

# Feature maps of each stage's convolutions. The number in a name counts the layers with weights, the three linear
# ones at the end included.
STAGES = {
    "vgg7": ((64,), (128,), (256,), (512,)),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
HEAD = (512, 512)
PLAIN = "_plain"  # ends the name of one without BatchNorm


def make_vgg(
    input_shape: tuple[int, int, int],
    stages: Sequence[Sequence[int]],
    classes: int,
    *,
    norm: bool = True,
    width: float = 1.0,
) -> nn.Module:
    """A VGG; children conv1, (norm1,) relu1, conv2, ..., pool1, ..., mean, flatten, fc1, relu, fc2, relu, output.

    A stage whose feature maps have a side of one pixel already gets no pool, so that small images fit. Weights are
    drawn as He et al. (2015) for ReLU, biases are 0.

    Args:
        input_shape: of one image, (C, H, W).
        stages: the feature maps of each stage's convolutions.
        classes: outputs.
        norm: put a BatchNorm behind every convolution.
        width: multiplies the units of every layer but the output, convolutions and hidden layers alike, see `widen`.

    Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.
    Departure: the hidden layers have 512 units instead of 4096, as is usual for images of 32x32, and no dropout.
    """
    children: OrderedDict[str, nn.Module] = OrderedDict()
    features, *sides = input_shape
    number = 0
    for stage, maps in enumerate(stages, start=1):
        for units in (widen(each, width) for each in maps):
            number += 1
            children[f"conv{number}"] = nn.Conv2d(features, units, 3, padding=1, bias=not norm)
            if norm:
                children[f"norm{number}"] = nn.BatchNorm2d(units)
            children[f"relu{number}"] = nn.ReLU()
            features = units
        if min(sides) > 1:
            children[f"pool{stage}"] = nn.MaxPool2d(2)
            sides = [side // 2 for side in sides]
    children["mean"] = nn.AdaptiveAvgPool2d(1)
    children["flatten"] = nn.Flatten()
    for layer, units in enumerate((widen(each, width) for each in HEAD), start=1):
        children[f"fc{layer}"] = nn.Linear(features, units)
        children[f"relu{number + layer}"] = nn.ReLU()
        features = units
    children["output"] = nn.Linear(features, classes)
    model = nn.Sequential(children)
    draw_for_relu(model)
    return model


def draw_for_relu(model: nn.Module) -> None:
    """Draw every weight from He's normal distribution for ReLU; biases become 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
