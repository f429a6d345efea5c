from __future__ import annotations

import pytest
import torch

from training.devices import find_device, torch_threads
from training.errors import DeviceError, FitSettingsError


def test_the_cpu_is_always_found() -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "cuda:4096"])
def test_an_unknown_or_missing_device_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceError, match=repr(name)):
        find_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_card_is_refused_with_a_remedy() -> None:
    with pytest.raises(DeviceError, match="use device=cpu"):
        find_device("cuda")


def test_threads_are_set_inside_the_block_only() -> None:
    with torch_threads(1):
        with torch_threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(FitSettingsError, match="threads=0"), torch_threads(0):
        pass
