"""Small networks with attention and gated linear units, in the spellings that people use, drawn or by name."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

TOKENS, WIDTH, CLASSES = 5, 6, 3
SHAPE = (1, TOKENS, WIDTH)  # of one image, whose rows are the tokens


class TorchAttention(nn.Module):
    """torch's own attention layer."""

    def __init__(self, heads: int, depth: int, *, need_weights: bool = False) -> None:
        super().__init__()
        self.inner, self.need_weights = nn.MultiheadAttention(heads * depth, heads, batch_first=True), need_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=self.need_weights)[0]


class Separate(nn.Module):
    """Three projections, then the heads by view and transpose; attention as one function."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, depth
        self.query, self.key, self.value = (nn.Linear(width, heads * depth) for _ in range(3))
        self.proj = nn.Linear(heads * depth, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self._merged(self._mixed(*(self._apart(each(x)) for each in self._layers()))))

    def _layers(self) -> tuple[nn.Module, ...]:
        return self.query, self.key, self.value

    def _apart(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), -1, self.heads, self.depth).transpose(1, 2)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    def _merged(self, mixed: Tensor) -> Tensor:
        return mixed.permute(0, 2, 1, 3).contiguous().view(mixed.size(0), -1, self.heads * self.depth)


class Explicit(Separate):
    """The same with products and a softmax, a bias among the products."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__(width, heads, depth)
        self.drop, self.bias = nn.Dropout(0.1), nn.Parameter(torch.rand(TOKENS, TOKENS))

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        products = torch.matmul(q / self.depth**0.5, k.transpose(-1, -2)) + self.bias
        return torch.matmul(self.drop(products.softmax(dim=-1)), v)


class Fused(nn.Module):
    """One projection for queries, keys and values, by reshape and unbind; norms of the first two over each head."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, depth
        self.qkv, self.proj = nn.Linear(width, 3 * heads * depth, bias=False), nn.Linear(heads * depth, width)
        self.q_norm, self.k_norm = nn.LayerNorm(depth), nn.LayerNorm(depth)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Chunked(nn.Module):
    """One projection, its queries, keys and values by chunk, the heads by a number that nobody holds."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.shape = (
            nn.Linear(width, 3 * heads * depth),
            nn.Linear(heads * depth, width),
            (heads, depth),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, self.shape).transpose(1, 2) for each in self.qkv(x).chunk(3, dim=-1))
        return self.proj((torch.softmax(q @ k.mT, -1) @ v).transpose(1, 2).flatten(2))


class Interleaved(Chunked):
    """Each head's queries, keys and values side by side."""

    def forward(self, x: Tensor) -> Tensor:
        heads, depth = self.shape
        q, k, v = self.qkv(x).unflatten(-1, (heads, 3 * depth)).transpose(1, 2).split(depth, dim=-1)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Summed(Separate):
    """The products by einsum, with heads behind tokens."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).reshape(len(x), -1, self.heads, self.depth) for each in self._layers())
        weights = torch.einsum("b i h d, b j h d -> b h i j", q, k).softmax(-1)
        return self.proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


class Shared(Separate):
    """Every second head reads the keys and values of the one before: two heads are one unit."""

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__(width, heads, depth)
        self.query, self.proj = nn.Linear(width, 2 * heads * depth), nn.Linear(2 * heads * depth, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (-1, self.depth)).transpose(1, 2) for each in self._layers())
        mixed = F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """A gated linear unit of one layer, by torch's layer, its function, or chunk and a product."""

    def __init__(self, width: int, units: int, kind: str) -> None:
        super().__init__()
        self.wide, self.narrow, self.kind, self.glu = (
            nn.Linear(width, 2 * units),
            nn.Linear(units, width),
            kind,
            nn.GLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        if self.kind == "layer":
            return self.narrow(self.glu(x))
        if self.kind == "function":
            return self.narrow(F.glu(x, dim=-1))
        gate, value = x.chunk(2, dim=-1)
        return self.narrow(F.silu(gate) * value)


class GatedByTwo(nn.Module):
    """A gated linear unit of two layers on tokens."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gate, self.value, self.narrow = nn.Linear(width, units), nn.Linear(width, units), nn.Linear(units, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.gelu(self.gate(x)) * self.value(x))


class Block(nn.Module):
    """Attention and an MLP or a gated linear unit on tokens, each around which the tokens go on, then the mean."""

    input_shape = SHAPE

    def __init__(self, width: int, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.enter, self.norm, self.attention = nn.Linear(WIDTH, width), nn.LayerNorm(width), attention
        self.mlp, self.output = mlp, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x.flatten(1, 2))
        x = x + self.attention(self.norm(x))
        return self.output((x + self.mlp(x)).mean(1))


# By name: heads, depth -> the attention, and the layer that its heads are named by.
ATTENTIONS = {
    "torch": (lambda heads, depth: TorchAttention(heads, depth), "attention.inner"),
    "torch with weights": (lambda heads, depth: TorchAttention(heads, depth, need_weights=True), "attention.inner"),
    "separate": (lambda heads, depth: Separate(heads * depth, heads, depth), "attention.query"),
    "explicit": (lambda heads, depth: Explicit(heads * depth, heads, depth), "attention.query"),
    "fused": (lambda heads, depth: Fused(heads * depth, heads, depth), "attention.qkv"),
    "chunked": (lambda heads, depth: Chunked(heads * depth, heads, depth), "attention.qkv"),
    "interleaved": (lambda heads, depth: Interleaved(heads * depth, heads, depth), "attention.qkv"),
    "summed": (lambda heads, depth: Summed(heads * depth, heads, depth), "attention.query"),
    "shared": (lambda heads, depth: Shared(heads * depth, heads, depth), "attention.query"),
}
# By name: width, units -> the MLP, and the layer that its units are named by.
MLPS = {
    "mlp": (lambda w, u: nn.Sequential(nn.Linear(w, u), nn.GELU(), nn.Linear(u, w)), "mlp.0"),
    "glu layer": (lambda w, u: Gated(w, u, "layer"), "mlp.wide"),
    "glu function": (lambda w, u: Gated(w, u, "function"), "mlp.wide"),
    "swiglu of one": (lambda w, u: Gated(w, u, "product"), "mlp.wide"),
    "swiglu of two": (lambda w, u: GatedByTwo(w, u), "mlp.gate"),
}


def attention_network(attention: str, mlp: str, heads: int, depth: int, units: int, seed: int) -> nn.Module:
    """A network of these parts in evaluation mode, its weights drawn from the seed."""
    torch.manual_seed(seed)
    width = heads * depth
    return Block(width, ATTENTIONS[attention][0](heads, depth), MLPS[mlp][0](width, units)).eval()


@st.composite
def drawn_networks(draw: st.DrawFn) -> tuple[nn.Module, dict[str, int], dict[str, np.ndarray], Tensor]:
    """A network, its units by layer, masks that keep at least one of each layer, and images."""
    attention, mlp = draw(st.sampled_from(sorted(ATTENTIONS))), draw(st.sampled_from(sorted(MLPS)))
    heads, depth, units = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(2, 5))
    seed = draw(st.integers(0, 2**16))
    model = attention_network(attention, mlp, heads, depth, units, seed)
    found = {ATTENTIONS[attention][1]: heads, MLPS[mlp][1]: units}
    masks = {}
    for layer, count in found.items():
        mask = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
        mask[draw(st.integers(0, count - 1))] = True
        masks[layer] = mask
    return model, found, masks, torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(seed))
