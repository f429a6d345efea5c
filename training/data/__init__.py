"""Data sets: known ones by name, folders of images, seeded splits, and the scoring sets that the program sees.

Everything is a tensor of float images in [0, 1] with integer labels.
"""

from training.data.augmentation import check_augmentable, draw_moves, flip_crop
from training.data.batches import ImageBatches, Images, held_images, image_batches
from training.data.datasets import DATASETS, load
from training.data.splits import Dataset, Split

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageBatches",
    "Images",
    "Split",
    "check_augmentable",
    "draw_moves",
    "flip_crop",
    "held_images",
    "image_batches",
    "load",
]
