"""A lower model that is the base's lowest layers plus low-rank changes: matrix + (alpha / rank) b a."""
from __future__ import annotations

import math

from torch import Tensor, nn

from .llama import MLP, Attention, Block, Decoder

PROJECTIONS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}


def borrowed(module: nn.Module, name: str, part: nn.Module) -> None:
    """Makes a part of the base usable here without owning it: it is neither trained nor stored twice."""
    object.__setattr__(module, name, part)


class LoraLinear(nn.Module):
    """lora_a [r,in] and lora_b [out,r] on top of a projection of the base. `b` starts at zero: nothing is changed yet."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        borrowed(self, "base", base)
        self.scale = alpha / rank
        self.lora_a = nn.Linear(base.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, base.out_features, bias=False)
        nn.init.normal_(self.lora_a.weight, std=1 / math.sqrt(base.in_features))
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.lora_b(self.lora_a(x))


def changed(base: nn.Module, kind: type, rank: int, alpha: float, names: tuple[str, ...]) -> nn.Module:
    """A copy of an attention or MLP whose projections are LoRA's and whose other parts are the base's."""
    out = kind.__new__(kind)
    nn.Module.__init__(out)
    if hasattr(base, "config"):
        out.config = base.config
    for name, part in base.named_children():
        if name in names:
            setattr(out, name, LoraLinear(part, rank, alpha))
        else:
            borrowed(out, name, part)
    return out


class LoraDecoder(nn.Module):
    """Stands where a `Decoder` would: the M lowest layers of the base, changed; embedding and norm are the base's."""

    def __init__(self, base: Decoder, layers: int, rank: int, alpha: float):
        super().__init__()
        self.config, self.rank, self.alpha = base.config, rank, alpha
        borrowed(self, "embed_tokens", base.embed_tokens)
        borrowed(self, "norm", base.norm)
        blocks = []
        for block in base.layers[:layers]:
            copy = Block.__new__(Block)
            nn.Module.__init__(copy)
            copy.self_attn = changed(block.self_attn, Attention, rank, alpha, PROJECTIONS["self_attn"])
            copy.mlp = changed(block.mlp, MLP, rank, alpha, PROJECTIONS["mlp"])
            borrowed(copy, "input_layernorm", block.input_layernorm)
            borrowed(copy, "post_attention_layernorm", block.post_attention_layernorm)
            blocks.append(copy)
        self.layers = nn.ModuleList(blocks)

    positions = Decoder.positions
