"""The paper's small networks: dense ones and LeNet-5."""

from collections import OrderedDict

from torch import nn

from training.errors import ModelError

HIDDEN = {"fc2": (300,), "fc3": (300, 100), "fc4": (200, 100, 100)}


def make_dense(input_shape: tuple[int, int, int], hidden: tuple[int, ...], classes: int) -> nn.Module:
    """Linear layers of these hidden widths; children flatten, fc1, relu1, fc2, ..., output.

    Args:
        input_shape: of one image, (C, H, W).
        hidden: widths of the hidden layers.
        classes: outputs.
    """
    channels, height, width = input_shape
    children: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = channels * height * width
    for number, units in enumerate(hidden, start=1):
        children[f"fc{number}"] = nn.Linear(features, units)
        children[f"relu{number}"] = nn.ReLU()
        features = units
    children["output"] = nn.Linear(features, classes)
    return nn.Sequential(children)


def make_lenet5(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """6 and 16 convolutions 5x5, each with ReLU and a 2x2 average pool, then 120-84.

    Args:
        input_shape: of one image, (C, H, W).
        classes: outputs.

    Raises:
        ModelError: the images are too small.
    """
    channels, height, width = input_shape
    # A 5x5 convolution without padding takes 4, a 2x2 pool halves; twice.
    rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
    if min(rows, columns) < 1:
        raise ModelError(
            f"model 'lenet5' cannot take images of {height}x{width}: at least 16x16 are needed; "
            f"give a larger image_size or use an fc model"
        )
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5),
            relu1=nn.ReLU(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * rows * columns, 120),
            relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            output=nn.Linear(84, classes),
        )
    )
