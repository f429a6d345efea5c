from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from training.digests import digest_tensors, model_digest


def test_a_copy_has_the_same_digest_and_a_changed_weight_another() -> None:
    model = nn.Linear(3, 2)
    other = copy.deepcopy(model)
    assert model_digest(other) == model_digest(model)
    other.weight.data[0, 0] += 1e-6
    assert model_digest(other) != model_digest(model)


def test_name_shape_and_type_are_part_of_the_digest() -> None:
    flat = np.zeros(4, dtype=np.float32)
    digests = {
        digest_tensors([("a", flat)]),
        digest_tensors([("b", flat)]),
        digest_tensors([("a", flat.reshape(2, 2))]),
        digest_tensors([("a", flat.view(np.int32))]),
    }
    assert len(digests) == 4


def test_buffers_scalars_and_half_precision_are_digested() -> None:
    model = nn.BatchNorm1d(2).to(torch.bfloat16)
    before = model_digest(model)
    model.num_batches_tracked += 1
    assert model_digest(model) != before


def test_the_digest_does_not_depend_on_the_order_in_which_modules_were_added() -> None:
    forth, back = nn.Module(), nn.Module()
    a, b = nn.Linear(2, 2), nn.Linear(2, 1)
    forth.add_module("a", a)
    forth.add_module("b", b)
    back.add_module("b", b)
    back.add_module("a", a)
    assert model_digest(forth) == model_digest(back)
