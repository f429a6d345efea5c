"""Files of the battery: pictures, data sets, checkpoints and factories that are not what they should be."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from tests.training.data.test_folders import write_images
from tests.training.data.test_pictures import encoded, huge

Lay = Callable[[Path], object]


def lay_pictures(place: Path) -> None:
    write_images(place / "set", images=12)


def lay_few_pictures(place: Path) -> None:
    write_images(place / "set", images=3)


def _beside(name: bytes, lay: Lay) -> Lay:
    def laid(place: Path) -> None:
        lay_pictures(place)
        lay(place / "set" / "dog" / os.fsdecode(name))

    return laid


def _as_class(name: bytes) -> Lay:
    def laid(place: Path) -> None:
        lay_pictures(place)
        (place / "set" / "dog").rename(place / "set" / os.fsdecode(name))

    return laid


def _socket(path: Path) -> None:
    short = Path(os.path.relpath(path))  # its address has room for some hundred characters
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(short))


def _written(content: bytes) -> Lay:
    return lambda path: path.write_bytes(content)


PICTURES: dict[str, tuple[Lay, str]] = {
    "a pipe": (_beside(b"x.png", os.mkfifo), "dog/x.png is a pipe"),
    "a socket": (_beside(b"x.png", _socket), "dog/x.png is a socket"),
    "a device": (_beside(b"x.png", lambda path: path.symlink_to("/dev/zero")), "dog/x.png is a device"),
    "a folder": (_beside(b"x.png", Path.mkdir), "dog/x.png is a folder"),
    "a broken link": (_beside(b"x.png", lambda path: path.symlink_to("none")), "is a link that leads nowhere"),
    "a link to itself": (_beside(b"x.png", lambda path: path.symlink_to("x.png")), "is a link that leads to itself"),
    "an empty file": (_beside(b"x.png", _written(b"")), "x.png cannot be read"),
    "text": (_beside(b"x.png", _written(b"just some text")), "x.png cannot be read"),
    "a script for a printer": (_beside(b"x.png", _written(b"%!PS-Adobe-3.0 EPSF-3.0\n")), "no picture of a format"),
    **{
        f"a bomb of {form}": (_beside(b"x." + form.encode(), _written(huge(form, 30000))), f"x.{form} ")
        for form in ("png", "jpg", "ppm", "bmp", "tiff")
    },
    **{
        f"a {form} cut in the middle": (
            _beside(b"x." + form.encode(), _written(encoded(form, 6, 5)[: len(encoded(form, 6, 5)) // 2])),
            f"x.{form} cannot be read",
        )
        for form in ("png", "jpg", "tiff", "webp")
    },
    "a name that is no text": (_beside(b"\xff.png", _written(encoded("png"))), "not UTF-8"),
    "a name of two lines": (_beside(b"a\nb.png", _written(encoded("png"))), "cannot be printed"),
    "a class that is no text": (_as_class(b"caf\xe9"), "not UTF-8"),
    "a class that colours the terminal": (_as_class(b"\x1b[31m"), "cannot be printed"),
    "one of another size": (_beside(b"x.png", _written(encoded("png", 9, 9))), "give image_size"),
    "one class alone": (lambda place: write_images(place / "set", ("cat",)), "holds 1 class folders"),
    "a class without any": (
        lambda place: (lay_pictures(place), (place / "set" / "none").mkdir()),
        "none holds no images",
    ),
}


def lay_truncated_mnist(place: Path) -> None:
    raw = place / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for role in ("train", "t10k"):
        (raw / f"{role}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 10, 28, 28))
        (raw / f"{role}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 10) + bytes(10))


def lay_mnist_of_pipes(place: Path) -> None:
    (place / "MNIST" / "raw").mkdir(parents=True)
    os.mkfifo(place / "MNIST" / "raw" / "train-images-idx3-ubyte")


def lay_altered_cifar(place: Path) -> None:
    folder = place / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"\x80\x04\x95")


def _saved(make: Callable[[], object]) -> Lay:
    return lambda place: torch.save(make(), place / "given.pt")


def _state(**other: object) -> dict[object, object]:
    """A state dict of fc2 on digits, with some of it replaced."""
    shapes = {"fc1.weight": (300, 784), "fc1.bias": (300,), "output.weight": (10, 300), "output.bias": (10,)}
    return {key: torch.zeros(shape) for key, shape in shapes.items()} | {
        key.replace("__", "."): value for key, value in other.items()
    }


def _raw(content: bytes) -> Lay:
    return lambda place: (place / "given.pt").write_bytes(content)


def _cut(place: Path) -> None:
    torch.save(_state(), place / "given.pt")
    whole = (place / "given.pt").read_bytes()
    (place / "given.pt").write_bytes(whole[: len(whole) // 2])


def _flipped(place: Path) -> None:
    torch.save(_state(output__bias=torch.ones(10)), place / "given.pt")
    content = bytearray((place / "given.pt").read_bytes())
    content[content.index(struct.pack("<f", 1.0)) + 1] ^= 8
    (place / "given.pt").write_bytes(content)


BIAS = (10,)
CHECKPOINTS: dict[str, tuple[Lay, str]] = {
    "that is not there": (lambda place: None, "does not exist"),
    "that is a folder": (lambda place: (place / "given.pt").mkdir(), "is a folder"),
    "that is a pipe": (lambda place: os.mkfifo(place / "given.pt"), "is a pipe"),
    "that is a link to itself": (lambda place: (place / "given.pt").symlink_to("given.pt"), "leads to itself"),
    "that is empty": (_raw(b""), "cannot be read as a state dict"),
    "that is text": (_raw(b"just some text"), "cannot be read as a state dict"),
    "that is half": (_cut, "cannot be read as a state dict"),
    "with a bit flipped": (_flipped, "cannot be read as a state dict"),
    "that is a list": (_saved(lambda: [1, 2]), "holds no state dict"),
    "of strings": (_saved(lambda: {"fc1.weight": "zeros"}), "is str and no tensor"),
    "of dicts in dicts": (_saved(lambda: {"state_dict": {"fc1": {"weight": torch.zeros(1)}}}), "is dict and no tensor"),
    "with numbers for keys": (_saved(lambda: {1: torch.zeros(1), 2: torch.zeros(1)}), "has the key 1"),
    "with other keys": (_saved(lambda: {"head": torch.zeros(1)}), "missing: fc1.weight"),
    "with other shapes": (_saved(lambda: _state(output__bias=torch.zeros(9))), "misshaped: output.bias [9]"),
    "that is complex": (_saved(lambda: _state(output__bias=torch.zeros(BIAS, dtype=torch.complex64))), "is complex"),
    "that is sparse": (_saved(lambda: _state(output__bias=torch.zeros(BIAS).to_sparse())), "sparse_coo instead"),
    "without values": (_saved(lambda: _state(output__bias=torch.zeros(BIAS, device="meta"))), "on device meta"),
    "that is expanded": (
        _saved(lambda: _state(output__bias=torch.zeros(1).expand(10**6, 10**6))),
        "with fewer values in the file",
    ),
    "of whole numbers": (_saved(lambda: _state(output__bias=torch.zeros(BIAS, dtype=torch.int64))), "holds int64"),
    "with NaN": (_saved(lambda: _state(output__bias=torch.full(BIAS, float("nan")))), "NaN or infinite"),
    "beyond float32": (
        _saved(lambda: _state(output__bias=torch.full(BIAS, 1e300, dtype=torch.float64))),
        "beyond the range",
    ),
}

_NET = "import os, sys, time\nfrom torch import nn\ndef net():\n"
FACTORIES: dict[str, tuple[str, str]] = {
    "leaves by os._exit(0)": (f"{_NET}  os._exit(0)\n", "with exit code 0"),
    "leaves while imported": ("import os\nos._exit(0)\n", "with exit code 0"),
    "leaves by sys.exit": (f"{_NET}  sys.exit(0)\n", "SystemExit: 0"),
    "interrupts": (f"{_NET}  raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "aborts": (f"{_NET}  os.abort()\n", "by SIGABRT"),
    "asks for input": (f"{_NET}  return input('name? ')\n", "EOFError"),
    "reads input": (f"{_NET}  return sys.stdin.read()\n", "returns str"),
    "gives no module": (f"{_NET}  return nn.Linear\n", "returns type, not a torch nn.Module"),
    "prints": (f"{_NET}  print('a' * 100)\n  print('b', file=sys.stderr)\n", "returns NoneType"),
    "needs a width": ("from torch import nn\ndef net(width): pass\n", "called without arguments fails"),
    "is no Python": ("def broken(:\n", "cannot be imported"),
    "is no text": ("\0\0", "cannot be imported"),
    "has other outputs": (f"{_NET}  return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n", "3 outputs"),
    "fits no image": (f"{_NET}  return nn.Linear(3, 10)\n", "cannot take images"),
    "leaves in its forward": (
        f"{_NET}  return Net()\nclass Net(nn.Module):\n  def forward(self, images): sys.exit(0)\n",
        "cannot take images",
    ),
    "has nothing to score": (
        f"{_NET}  return nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.Sigmoid(), nn.Linear(5, 10))\n",
        "Sigmoid",
    ),
}
