"""Residual networks for small images: three stages of basic blocks with 16, 32 and 64 feature maps."""

from collections import OrderedDict

from torch import Tensor, nn

from training.models.architectures.vgg import draw_for_relu
from training.models.architectures.width_multipliers import widen

BLOCKS = {"resnet20": 3, "resnet56": 9}  # of each stage
WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """relu2(norm2(conv2(relu1(norm1(conv1(x))))) + shortcut(x)), images [n, C, H, W]; the stride is conv1's.

    The shortcut is the identity, or a 1x1 convolution with BatchNorm where shapes change.
    """

    def __init__(self, features: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = (
            nn.Identity()
            if (features, stride) == (width, 1)
            else nn.Sequential(
                OrderedDict(conv=nn.Conv2d(features, width, 1, stride, bias=False), norm=nn.BatchNorm2d(width))
            )
        )
        self.relu2 = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        """The block's feature maps, [n, width, H / stride, W / stride]."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(images)))))
        outputs: Tensor = self.relu2(inner + self.shortcut(images))
        return outputs


def make_resnet(input_shape: tuple[int, int, int], blocks: int, classes: int, *, width: float = 1.0) -> nn.Module:
    """A residual network of 6 * blocks + 2 layers; children conv1, norm1, relu1, stage1, ..., mean, flatten, output.

    A stage's children are block1, block2, ... The first block of stages 2 and 3 has a stride of 2.

    Args:
        input_shape: of one image, (C, H, W).
        blocks: of each stage.
        classes: outputs.
        width: multiplies the feature maps of all stages, see `widen`.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
    Departure: where shapes change the shortcut is a 1x1 convolution (the paper's option B), not padding with zeros.
    """
    maps = [widen(each, width) for each in WIDTHS]
    features = maps[0]
    children: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[0], features, 3, padding=1, bias=False),
        norm1=nn.BatchNorm2d(features),
        relu1=nn.ReLU(),
    )
    for stage, units in enumerate(maps, start=1):
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, blocks + 1):
            parts[f"block{block}"] = BasicBlock(features, units, 2 if stage > 1 and block == 1 else 1)
            features = units
        children[f"stage{stage}"] = nn.Sequential(parts)
    children.update(mean=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), output=nn.Linear(features, classes))
    model = nn.Sequential(children)
    draw_for_relu(model)
    return model
