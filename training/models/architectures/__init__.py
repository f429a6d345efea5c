"""The built-in networks: dense ones, LeNet-5, VGG, residual networks and a small vision transformer.

A name may bear a width, as in `vgg16@0.25`.
"""

from training.models.architectures.resnet import BLOCKS, make_resnet
from training.models.architectures.small import HIDDEN, make_dense, make_lenet5
from training.models.architectures.vgg import PLAIN, STAGES, make_vgg
from training.models.architectures.vit import BLOCKS_OF_VIT, make_vit
from training.models.architectures.width_multipliers import MARK, read_width

__all__ = [
    "BLOCKS",
    "BLOCKS_OF_VIT",
    "HIDDEN",
    "MARK",
    "PLAIN",
    "STAGES",
    "make_dense",
    "make_lenet5",
    "make_resnet",
    "make_vgg",
    "make_vit",
    "read_width",
]
