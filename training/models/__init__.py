"""Networks by name: the paper's, torchvision's, or a person's own, with their checkpoints and output layers.

A width may be part of a name, as in `vgg16@0.25`.
"""

from training.models.checkpoints import load_checkpoint, load_state, read_file, save_checkpoint, tensors_of, write_file
from training.models.foreign_states import accuracy_said
from training.models.model_registry import MODELS, OF_ANY_WIDTH, VGG16_PLAIN, build, is_built_in, is_known
from training.models.normalised_images import NormalisedImages, normalise_images
from training.models.output_layer import find_head, with_new_head
from training.models.plain_tensors import fault_in

__all__ = [
    "MODELS",
    "OF_ANY_WIDTH",
    "VGG16_PLAIN",
    "NormalisedImages",
    "accuracy_said",
    "build",
    "fault_in",
    "find_head",
    "is_built_in",
    "is_known",
    "load_checkpoint",
    "load_state",
    "normalise_images",
    "read_file",
    "save_checkpoint",
    "tensors_of",
    "with_new_head",
    "write_file",
]
