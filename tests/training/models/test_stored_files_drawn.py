"""Files of a stranger, drawn at random: checkpoints, heads and compacted models end in the room's own errors alone."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from training.digests import state_digest
from training.errors import TrainingError
from training.fitting.blocks import split
from training.fitting.head_files import load_heads, save_heads
from training.fitting.heads import make_head
from training.models import build
from training.models.checkpoints import load_checkpoint, save_checkpoint
from training.pruning.compaction import compact, load_compact, read_spec, save_compact

SHAPE = (1, 16, 16)
MODEL = build("lenet5", input_shape=SHAPE, classes=3, seed=0).eval()
BLOCKS = split(MODEL, torch.zeros(1, *SHAPE), ("conv2",))
MASKS = {"fc1": np.arange(120) % 2 == 0, "conv1": np.arange(6) > 1}
DRAWN = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _checkpoint(path: Path) -> object:
    return load_checkpoint(MODEL, path)


def _heads(path: Path) -> object:
    return load_heads(BLOCKS, 3, path)


def _compact(path: Path) -> object:
    read_spec(path)
    return load_compact(path)


LOADERS: dict[str, Callable[[Path], object]] = {"checkpoint": _checkpoint, "heads": _heads, "compact": _compact}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("valid")
    save_checkpoint(MODEL, place / "checkpoint")
    save_heads({block.name: make_head(block, 3, seed=1) for block in BLOCKS[:-1]}, place / "heads")
    save_compact(compact(MODEL, MASKS, torch.zeros(1, *SHAPE)), MASKS, SHAPE, place / "compact", model="lenet5")
    for name, loader in LOADERS.items():
        loader(place / name)
    return {name: (place / name).read_bytes() for name in LOADERS}


def _only_own_errors(loader: Callable[[Path], object], path: Path) -> bool:
    """Whether the file was taken; any other error than the room's own comes out."""
    said = "taken"
    try:
        loader(path)
    except TrainingError as error:
        said = str(error)
    assert said.isprintable()
    return said == "taken"


@pytest.mark.parametrize("name", LOADERS)
@DRAWN
@given(data=st.data())
def test_a_cut_or_altered_file_is_refused_and_never_taken_for_another(
    name: str, data: st.DataObject, valid: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(valid[name])
    path = tmp_path_factory.getbasetemp() / f"altered.{name}"
    kind = data.draw(st.sampled_from(["flip", "cut", "head", "zeros", "doubled"]))
    at = data.draw(st.integers(0, len(content) - 1))
    match kind:
        case "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            content = content[:at]
        case "head":
            content = content[at:]
        case "zeros":
            content[at : at + 64] = bytes(len(content[at : at + 64]))
        case _:
            content = content[:at] + content
    path.write_bytes(content)
    taken = _only_own_errors(LOADERS[name], path)
    if taken:  # what is not the tensors: padding, times, names of the archive itself
        loaded, whole = LOADERS[name](path), _whole(name, valid, path.with_suffix(".whole"))
        assert _digest(loaded) == _digest(whole)


def _whole(name: str, valid: dict[str, bytes], path: Path) -> object:
    path.write_bytes(valid[name])
    return LOADERS[name](path)


def _digest(loaded: object) -> dict[str, str]:
    modules = loaded if isinstance(loaded, dict) else {"": loaded}
    return {name: state_digest(module.state_dict()) for name, module in modules.items()}


DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool),
    *(torch.complex64, torch.float8_e4m3fn, torch.uint16),
)


def _alone(value: object) -> object:
    return value


TWISTS: dict[str, Callable[[torch.Tensor], object]] = {
    "as it is": _alone,
    "sparse": lambda value: value.to_sparse(),
    "compressed": lambda value: value.reshape(1, -1).to_sparse_csr(),
    "meta": lambda value: value.to("meta"),
    "parameter": lambda value: nn.Parameter(value, requires_grad=False),
    "expanded": lambda value: value.reshape(-1)[:1].expand(10**9, 10**9),
    "repeated": lambda value: value.reshape(-1)[:1].expand(value.shape) if value.dim() else value,
    "turned": lambda value: value.t().contiguous().t() if value.dim() == 2 else value,
    "view": lambda value: torch.cat([value.reshape(-1), value.reshape(-1)])[value.numel() :].reshape(value.shape),
    "empty": lambda value: value.reshape(-1)[:0],
    "infinite": lambda value: value * float("inf") if value.is_floating_point() else value,
    "list": lambda value: value.tolist(),
    "text": str,
    "nested": lambda value: {"weight": value},
    "none": lambda value: None,
}


def _twisted(value: torch.Tensor, twist: str) -> object:
    """The twisted tensor; the value itself where torch knows no such twist of its kind of numbers."""
    try:
        return TWISTS[twist](value)
    except NotImplementedError:
        return value


TENSORS = st.builds(
    lambda shape, kind, twist: _twisted(torch.ones(shape).to(kind), twist),
    st.lists(st.integers(1, 4), max_size=4), st.sampled_from(DTYPES[:7]), st.sampled_from(list(TWISTS)),
)  # fmt: skip
KEYS = st.one_of(
    st.sampled_from([*MODEL.state_dict(), "spec", "state_dict", "heads", "digests", "version", "units", "kept"]),
    st.text(max_size=4), st.integers(), st.none(), st.floats(allow_nan=False), st.tuples(st.integers()), st.binary(),
)  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8))
CONTENTS = st.recursive(
    st.one_of(PLAIN, TENSORS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)


@pytest.mark.parametrize("name", LOADERS)
@DRAWN
@given(content=CONTENTS)
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_anything_that_torch_can_write_is_refused(
    name: str, content: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"drawn.{name}"
    torch.save(content, path)
    assert not _only_own_errors(LOADERS[name], path)


@DRAWN
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_state_dict_with_one_tensor_of_another_kind_is_refused_or_holds_the_same_numbers(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "twisted.pt"
    state: dict[object, object] = dict(copy.deepcopy(MODEL.state_dict()))
    key = data.draw(st.sampled_from(list(MODEL.state_dict())))
    value = state[key]
    assert isinstance(value, torch.Tensor)
    kind = data.draw(st.sampled_from(DTYPES))
    drawn = data.draw(st.sampled_from(list(TWISTS)))
    twisted = _twisted(value if kind == torch.float32 else value.to(kind), drawn)
    renamed = data.draw(st.one_of(st.just(key), KEYS))
    del state[key]
    state[renamed] = twisted
    torch.save(state, path)
    if _only_own_errors(_checkpoint, path):
        loaded = load_checkpoint(MODEL, path).state_dict()[key]
        assert isinstance(twisted, torch.Tensor)
        assert renamed == key
        assert twisted.is_floating_point()
        torch.testing.assert_close(loaded, twisted.to(torch.float32), rtol=0, atol=0)


SPEC_VALUES = st.one_of(
    PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(KEYS, st.one_of(PLAIN, st.lists(st.integers(), max_size=3))),
    st.integers(10**6, 10**20), st.lists(st.integers(-1, 10**12), min_size=3, max_size=3),
    st.sampled_from(["vgg16@", "vgg16@9999", "lenet5", "own.py:f", "torchvision:vgg16", "float64", "int64", "load"]),
    st.just({"fc1": 10**15, "conv1": 6}), st.just({"fc1": [0] * 5, "conv1": [2, 3, 4, 5]}), st.just({"fc1": [True]}),
)  # fmt: skip
FIELDS = ("version", "model", "input_shape", "classes", "units", "kept", "shapes", "digest", "dtype", "kept_digest")


@DRAWN
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_compacted_model_with_other_words_in_its_spec_is_refused(
    data: st.DataObject, valid: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = torch.load(io.BytesIO(valid["compact"]), weights_only=True)
    before = copy.deepcopy(content["spec"])
    for field in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2)):
        content["spec"][field] = data.draw(SPEC_VALUES)
    path = tmp_path_factory.getbasetemp() / "spec.pt"
    torch.save(content, path)
    taken = _only_own_errors(_compact, path)
    assert not taken or content["spec"] == before


@pytest.mark.parametrize("name", LOADERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=60).map(lambda rest: b"PK\x03\x04" + rest),
        st.binary(max_size=60).map(lambda rest: b"\x80\x02" + rest),
    )
)
def test_a_file_of_any_bytes_is_refused(name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes.{name}"
    path.write_bytes(content)
    assert not _only_own_errors(LOADERS[name], path)
