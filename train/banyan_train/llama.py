"""A plain Llama decoder with the parameter names of Hugging Face.

Shapes: B rows, L tokens, H hidden, h query heads, g key/value heads, d head size. Works in float32 and float64.
"""
from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .config import LlamaConfig, Rope

BLOCK = 128  # queries whose causal scores are computed at once


def rotation(config: LlamaConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [..., d] of `positions` [...]; the angles are computed in float64, YaRN's magnitude is in both."""
    return turn(config, positions[..., None], dtype, config.rope.magnitude)


def turn(config: LlamaConfig, positions: Tensor, dtype: torch.dtype, magnitude: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same for positions of every pair [..., d/2] (or [..., 1], all pairs alike)."""
    angle = positions.double() * frequencies(config.rope, config.head_dim, positions.device)
    angle = torch.cat([angle, angle], -1)
    return (angle.cos() * magnitude).to(dtype), (angle.sin() * magnitude).to(dtype)


@lru_cache(maxsize=32)
def frequencies(rope: Rope, head_dim: int, device: torch.device) -> Tensor:
    """Radians a token of every pair [d/2], float64; kept, because every layer asks."""
    return torch.tensor(rope.frequencies(head_dim), dtype=torch.float64, device=device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """rot(x, t): pairs (m, m + d/2) of the last dimension are turned by the angles in cos and sin."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool, visible: Tensor | None = None) -> Tensor:
    """q [B,h,L,d], k and v [B,g,S,d] -> [B,L,h*d]. Query head a reads kv head a // (h/g).

    `causal`: token l sees keys 0 .. S-L+l; `visible` [B,L,S]: what it sees instead.
    """
    batch, heads, length, size = q.shape
    groups, total = k.shape[1], k.shape[2]
    if q.is_cuda and (not causal or length == total):
        return fused(q, k, v, causal, visible)
    if causal and visible is None and length > BLOCK:  # what no query of a block sees is not computed
        blocks = [(a, total - length + min(a + BLOCK, length)) for a in range(0, length, BLOCK)]
        return torch.cat([attend(q[:, :, a : a + BLOCK], k[:, :, :end], v[:, :, :end], True) for a, end in blocks], 1)
    scores = (q / math.sqrt(size)).reshape(batch, groups, -1, size) @ k.transpose(-1, -2)
    scores = scores.view(batch, groups, -1, length, total)
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None, None], -1e30)  # padding sees nothing: no NaN
    elif causal:
        hidden = torch.ones(length, total, dtype=torch.bool, device=q.device).triu(total - length + 1)
        scores = scores.masked_fill(hidden, float("-inf"))
    out = scores.view(batch, groups, -1, total).softmax(-1) @ v
    return out.view(batch, heads, length, size).transpose(1, 2).reshape(batch, length, heads * size)


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool, visible: Tensor | None) -> Tensor:
    """The same by PyTorch's kernels for CUDA, which never write the scores (PyTorch 2)."""
    share = q.shape[1] // k.shape[1]
    wide = lambda x: x.to(v.dtype).repeat_interleave(share, 1)
    mask = None  # not -inf: padding sees nothing, and must not become NaN
    if visible is not None:
        mask = torch.zeros(visible.shape, dtype=v.dtype, device=v.device).masked_fill_(~visible, -1e30)[:, None]
    out = F.scaled_dot_product_attention(q.to(v.dtype), wide(k), wide(v), attn_mask=mask, is_causal=causal)
    return out.transpose(1, 2).flatten(2)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.config = c
        width = lambda heads: heads * c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, width(c.num_attention_heads), bias=c.qkv_bias)
        self.k_proj = nn.Linear(c.hidden_size, width(c.num_key_value_heads), bias=c.qkv_bias)
        self.v_proj = nn.Linear(c.hidden_size, width(c.num_key_value_heads), bias=c.qkv_bias)
        self.o_proj = nn.Linear(width(c.num_attention_heads), c.hidden_size, bias=c.o_bias)
        if c.qk_norm:
            self.q_norm, self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps), RMSNorm(c.head_dim, c.rms_norm_eps)

    def split(self, x: Tensor) -> Tensor:
        """[B,L,n*d] -> [B,n,L,d]"""
        return x.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)

    def queries(self, x: Tensor) -> Tensor:
        """[B,L,h*d], projected -> [B,h,L,d], normed where the family does it, not rotated."""
        return self.q_norm(self.split(x)) if self.config.qk_norm else self.split(x)

    def keys(self, x: Tensor) -> Tensor:
        return self.k_norm(self.split(x)) if self.config.qk_norm else self.split(x)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unrotated keys, and values, both [B,g,L,d], of the normed states."""
        return self.keys(self.k_proj(x)), self.split(self.v_proj(x))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv: tuple[Tensor, Tensor] | None = None) -> Tensor:
        k, v = kv or self.keys_values(x)
        q = rotate(self.queries(self.q_proj(x)), cos, sin)
        return self.o_proj(attend(q, rotate(k, cos, sin), v, causal=True))


class MLP(nn.Module):
    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


def recomputed(function, *inputs, on: bool):
    """Gradient checkpointing: with `on`, what `function` computes inside is thrown away and computed again backwards."""
    return checkpoint(function, *inputs, use_reentrant=False) if on and torch.is_grad_enabled() else function(*inputs)


class Decoder(nn.Module):
    """Embedding, blocks and final norm: `model.*` of a checkpoint, and also the lower model `encoder.*`."""

    def __init__(self, c: LlamaConfig, layers: int | None = None):
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList([Block(c) for _ in range(c.num_hidden_layers if layers is None else layers)])
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def positions(self, length: int) -> tuple[Tensor, Tensor]:
        weight = self.embed_tokens.weight
        return rotation(self.config, torch.arange(length, device=weight.device), weight.dtype)


class Llama(nn.Module):
    """The whole language model without any memory."""

    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.config = c
        self.checkpointing = False  # see `recomputed`
        self.model = Decoder(c)
        if not c.tie_word_embeddings:
            self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)

    def logits(self, x: Tensor) -> Tensor:
        head = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        return F.linear(self.model.norm(x), head.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [B,L] -> logits [B,L,vocab]"""
        x = self.model.embed_tokens(ids)
        cos, sin = self.model.positions(ids.shape[1])
        for block in self.model.layers:
            x = recomputed(block, x, cos, sin, on=self.checkpointing)
        return self.logits(x)


def initialise(model: nn.Module, generator: torch.Generator, std: float = 0.05) -> None:
    """Normal weights; projections back into the residual stream are smaller by sqrt(2 layers)."""
    layers = max(1, sum(1 for name, _ in model.named_parameters() if name.endswith("o_proj.weight")))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() < 2:
                continue
            scale = std / math.sqrt(2 * layers) if name.endswith(("o_proj.weight", "down_proj.weight")) else std
            scale = 0.1 if name.endswith("embed_tokens.weight") else scale
            p.copy_(torch.randn(p.shape, generator=generator) * scale)


def plant_matching(model: Llama, generator: torch.Generator) -> None:
    """Sets by hand the circuit that a large Llama learns by itself (and a tiny one not within minutes).

    Layer 0, heads 0 and 1 look one and two tokens back and write that token into their own part of the stream.
    Layer 1, head 0 compares "one back" of the query with "two back" of every key: in `falcon is violet`, the query
    at `is` meets the key at `violet`, and the value is copied to the output. All of it is then trained normally.
    """
    c = model.config
    d, n = c.head_dim, 24
    one_back, two_back = slice(1, 1 + n), slice(1 + n, 1 + 2 * n)

    def orthogonal(rows: int, columns: int) -> Tensor:
        return torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))[0]

    with torch.no_grad():
        e = model.model.embed_tokens.weight
        e[:, one_back.start : two_back.stop] *= 0.1
        e[:, 0] = 0.8  # a constant that lets heads look by position alone
        first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        first.q_proj.weight[: 2 * d] *= 0.1
        first.k_proj.weight[:d] *= 0.1
        frequency = torch.tensor(c.rope.frequencies(d), dtype=torch.float64)
        for m in range(4):
            first.k_proj.weight[m, 0] = 1.0
            for head, back in ((0, 1.0), (1, 2.0)):
                first.q_proj.weight[head * d + m, 0] = torch.cos(back * frequency[m])
                first.q_proj.weight[head * d + m + d // 2, 0] = -torch.sin(back * frequency[m])
        rest = c.hidden_size - two_back.stop
        read = orthogonal(rest, d).t()[:n]  # [n, rest]
        first.v_proj.weight[:d] = 0
        first.v_proj.weight[:n, two_back.stop :] = read
        first.o_proj.weight[:, : 2 * d] = 0
        for head, place in ((0, one_back), (1, two_back)):
            first.o_proj.weight[place, head * d : head * d + n] = torch.eye(n) * 0.2
        slow = (frequency * c.max_position_embeddings <= 0.5).nonzero()[:, 0]  # pairs that hardly turn in a window
        slow = torch.cat([slow, slow + d // 2])
        mix = orthogonal(n, len(slow))  # [slow, n], whichever is larger
        mix = mix if len(mix) == len(slow) else mix.t()
        second.q_proj.weight[:d] = 0
        second.k_proj.weight[:d] = 0
        second.q_proj.weight[slow, one_back] = mix * 2.2
        second.k_proj.weight[slow, two_back] = mix * 2.2
        copy = orthogonal(rest, d)  # [rest, d]
        second.v_proj.weight[:d] = 0
        second.v_proj.weight[:d, two_back.stop :] = copy.t()
        second.o_proj.weight[:, :d] = 0
        second.o_proj.weight[two_back.stop :, :d] = copy * 0.5
