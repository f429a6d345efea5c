"""Forms of ops that are affine or piecewise linear, for values of four channels and six by six pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import CenterCrop, Normalize, Resize, v2

PIXELS = 6
CHANNEL = torch.tensor([0.5, 0.8, 1.5, 2.0], dtype=torch.float64).reshape(4, 1, 1)
ORDER = torch.tensor([2, 0, 3])


def shuffled_by_hand(x: Tensor) -> Tensor:
    return x.view(x.size(0), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.size(0), -1, *x.shape[2:])


Form = Callable[[Tensor], Any]
BENT: dict[str, Form] = {
    "ReLU6": nn.ReLU6(),
    "F.relu6": F.relu6,
    "Hardtanh": nn.Hardtanh(-1, 2),
    "F.hardtanh": lambda x: F.hardtanh(x, 0.0, 3.0),
    "clamp": lambda x: x.clamp(0, 0.5),
    "clamp of one side": lambda x: torch.clamp(x, max=0.3),
    "clamp_min": lambda x: x.clamp_min(0.1),
    "clamp_max": lambda x: torch.clamp_max(x, 0.2),
    "clip_": lambda x: (x * 1).clip_(0, 0.4),
    "LeakyReLU": nn.LeakyReLU(0.1),
    "leaky_relu_": lambda x: F.leaky_relu_(x * 1, 0.2),
    "PReLU": nn.PReLU(),
    "PReLU by channel": nn.PReLU(4),
    "amax": lambda x: x.amax((2, 3), keepdim=True),
    "MaxPool2d": nn.MaxPool2d(3, 2, 1),
}
PADS: dict[str, Form] = {
    **{
        f"F.pad {mode}": lambda x, mode=mode: F.pad(x, (1, 2, 1, 0), mode=mode)
        for mode in ("reflect", "replicate", "circular")
    },
    "F.pad": lambda x: F.pad(x, (1, 1, 0, 0)),
    "F.pad with a value": lambda x: F.pad(x, (1, 1, 0, 0), value=0.7),
    "ZeroPad2d": nn.ZeroPad2d((1, 0, 2, 0)),
    "ConstantPad2d": nn.ConstantPad2d(1, 0.5),
    "ReflectionPad2d": nn.ReflectionPad2d(1),
    "ReplicationPad2d": nn.ReplicationPad2d(1),
    "CircularPad2d": nn.CircularPad2d(1),
    "CenterCrop": CenterCrop(4),
}
SIZES: dict[str, Form] = {
    "Upsample": nn.Upsample(scale_factor=2),
    "Upsample to a size": nn.Upsample(size=(7, 5)),
    "UpsamplingNearest2d": nn.UpsamplingNearest2d(scale_factor=2),
    "Upsample bilinear": nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "UpsamplingBilinear2d": nn.UpsamplingBilinear2d(size=(7, 8)),
    "interpolate": lambda x: F.interpolate(x, size=(x.shape[2] * 2, x.shape[3])),
    "area": lambda x: F.interpolate(x, scale_factor=0.5, mode="area"),
    "smaller, smoothed": lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True),
    "Resize": Resize((4, 5)),
    "bicubic": lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"),
    "nearest-exact": lambda x: F.interpolate(x, scale_factor=0.6, mode="nearest-exact"),
    "PixelShuffle": nn.PixelShuffle(2),
    "F.pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "ChannelShuffle": nn.ChannelShuffle(2),
    "F.channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "a shuffle by hand": shuffled_by_hand,
    "F.unfold": lambda x: F.unfold(x, 2, stride=2),
}
LAYERS: dict[str, Form] = {
    **{
        f"Conv2d {mode}": nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode)
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    "ConvTranspose2d": nn.ConvTranspose2d(4, 3, 2, 2),
    "ConvTranspose2d with output padding": nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1),
    "grouped ConvTranspose2d": nn.ConvTranspose2d(4, 4, 3, groups=2, bias=False),
    "dilated ConvTranspose2d": nn.ConvTranspose2d(4, 2, 3, dilation=2),
    "F.conv_transpose2d": lambda x: F.conv_transpose2d(x, torch.ones(4, 2, 2, 2, dtype=x.dtype)),
    "BatchNorm2d": nn.BatchNorm2d(4),
    "SyncBatchNorm": nn.SyncBatchNorm(4),
    "FrozenBatchNorm2d": FrozenBatchNorm2d(4),
    "F.batch_norm": lambda x: F.batch_norm(x, CHANNEL.reshape(-1), CHANNEL.reshape(-1)),
    "AlphaDropout": nn.AlphaDropout(0.2),
    "Normalize": Normalize([0.1] * 4, [0.3] * 4),
    "Normalize, second version": v2.Normalize([0.1], [0.3]),
    "a norm by hand": lambda x: (x - CHANNEL) / CHANNEL,
    "AvgPool2d": nn.AvgPool2d(3, 1, 1),
    "means": lambda x: x.mean((2, 3)),
    "mean of channels": lambda x: x.mean(1),
    "sums": lambda x: x.sum(dim=-1),
}
MOVES: dict[str, Form] = {
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(2, 3),
    "mT": lambda x: x.mT,
    "movedim": lambda x: torch.movedim(x, 1, -1),
    "squeeze": lambda x: x.unsqueeze(2).squeeze(2),
    "slice": lambda x: x[:, :, 1:4, ::2],
    "channels": lambda x: x[:, 1:],
    "ellipsis": lambda x: x[..., None, 2:],
    "one row": lambda x: x[:, :, 0],
    "index": lambda x: x[:, ORDER],
    "index of a list": lambda x: x[:, [3, 0, 1]],
    "index_select": lambda x: x.index_select(1, ORDER),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: x.split([1, 3], 1)[1],
    "parts at once": lambda x: torch.cat(torch.split(x, 2, 2), 3),
    "unbind": lambda x: torch.stack(x.unbind(1), 2),
    "stack": lambda x: torch.stack((x, x.flip(3)), -1),
    "flip": lambda x: torch.flip(x, [1, 3]),
    "roll": lambda x: x.roll(1, 1),
    "cat of rows": lambda x: torch.cat([x, 2 * x], 2),
    "cat with a constant": lambda x: torch.cat([x, torch.ones(x.size(0), 1, *x.shape[2:], dtype=x.dtype)], 1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1, -1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "masked_fill": lambda x: x.masked_fill(torch.eye(PIXELS, dtype=torch.bool), 0.0),
    "reshape": lambda x: x.reshape(len(x), -1) if x.dim() == 4 else x,
}
ARITHMETIC: dict[str, Form] = {
    "+": lambda x: x + 1,
    "1 -": lambda x: 1 - x,
    "* C": lambda x: x * CHANNEL,
    "torch.div": lambda x: torch.div(x, CHANNEL),
    "add alpha": lambda x: x.add(CHANNEL, alpha=2),
    "mul_": lambda x: (x * 1).mul_(2),
    "-": lambda x: -x,
    "chain": lambda x: 2 * (x - 0.5) / 3,
    "true_divide": lambda x: x.true_divide(3),
    "+= 1": lambda x: (x * 2).add_(1),
    "lerp": lambda x: x.lerp(CHANNEL, 0.3),
    "addcmul": lambda x: torch.addcmul(x, CHANNEL, CHANNEL),
    "@": lambda x: x @ torch.ones(PIXELS, 2, dtype=x.dtype),
    "less its mean": lambda x: x - x.mean((2, 3), keepdim=True),
    "difference": lambda x: x[:, :2] - x[:, 2:],
    "sum with a factor": lambda x: torch.add(x, x.flip(1), alpha=-0.5),
    "cumsum": lambda x: x.cumsum(2),
    "fold": lambda x: F.fold(F.unfold(x, 2), (PIXELS, PIXELS), 2),
}
CASTS: dict[str, Form] = {
    "to": lambda x: x.to(torch.float32),
    "to a device": lambda x: x.to("cpu"),
    "float": lambda x: x.float(),
    "clone": lambda x: x.clone(memory_format=torch.contiguous_format),
    "contiguous": lambda x: x.contiguous(memory_format=torch.channels_last),
    "type_as": lambda x: x.type_as(CHANNEL),
    "detach": lambda x: x.detach(),
}
FORMS = {**BENT, **PADS, **SIZES, **LAYERS, **MOVES, **ARITHMETIC, **CASTS}
# What is affine or piecewise linear only in part, or not at all.
REFUSED: dict[str, Form] = {
    "GELU": nn.GELU(),
    "sigmoid": torch.sigmoid,
    "GroupNorm": nn.GroupNorm(2, 4),
    "InstanceNorm2d": nn.InstanceNorm2d(4),
    "LPPool2d": nn.LPPool2d(2, 2),
    "a product": lambda x: x * x.flip(1),
    "a square": lambda x: x**2,
    "a rounding": lambda x: torch.div(x, 0.1, rounding_mode="floor"),
    "softmax": lambda x: x.softmax(1),
}
