"""Settings of the models, as they stand in `config.json`, and the sizes of the bases we train ourselves."""
from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Rope:
    """Frequencies of the rotary embedding. Scalings as in the engine: none, linear, ntk, yarn, llama3."""

    theta: float = 10000.0
    scaling: str = "none"
    factor: float = 1.0  # of the window
    original_window: int = 0  # tokens (yarn, llama3)
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float = 0.0  # yarn; 0: 0.1 ln(factor) + 1
    divisors: tuple[float, ...] = ()  # of every pair: GGUF's rope_freqs.weight

    @staticmethod
    def of(keys: dict) -> "Rope":
        """From a `config.json`: `rope_theta` with `rope_scaling`, or the newer `rope_parameters`."""
        new = keys.get("rope_parameters")
        scaling = new or keys.get("rope_scaling") or {}
        theta = scaling.get("rope_theta", keys.get("rope_theta", 10000.0))
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        kind = {"default": "none", "dynamic": "none"}.get(kind, kind)  # dynamic changes nothing within the window
        if kind not in ("none", "linear", "ntk", "yarn", "llama3"):
            raise ValueError(f"rope scaling {kind!r} is not supported")
        known = {k: scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
                                         "attention_factor") if scaling.get(k) is not None and kind != "none"}
        window = scaling.get("original_max_position_embeddings", keys.get("max_position_embeddings", 0))
        return Rope(theta=float(theta), scaling=kind, original_window=int(window or 0) if kind != "none" else 0, **known)

    def hugging_face(self) -> dict:
        if self.scaling == "none":
            return {"rope_theta": self.theta, "rope_scaling": None}
        keys = {"rope_type": self.scaling, "factor": self.factor, "original_max_position_embeddings": self.original_window}
        if self.scaling == "llama3":
            keys.update(low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)
        if self.scaling == "yarn":
            keys.update(beta_fast=self.beta_fast, beta_slow=self.beta_slow)
            keys.update({"attention_factor": self.attention_factor} if self.attention_factor else {})
        return {"rope_theta": self.theta, "rope_scaling": keys}

    def frequencies(self, head_dim: int) -> list[float]:
        """Radians a token of every pair [head_dim/2]."""
        theta = self.theta
        if self.scaling == "ntk":
            theta *= self.factor ** (head_dim / (head_dim - 2)) if head_dim > 2 else 1.0
        out = []
        for m in range(head_dim // 2):
            f = theta ** (-2.0 * m / head_dim)
            if self.scaling == "linear":
                f /= self.factor
            elif self.scaling == "llama3":  # long waves are slowed down, short ones kept, those between blended
                turns = self.original_window * f / (2 * math.pi)
                kept = min(1.0, max(0.0, (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)))
                f = kept * f + (1 - kept) * f / self.factor
            elif self.scaling == "yarn":
                pair = lambda turns: head_dim * math.log(self.original_window / (turns * 2 * math.pi)) / (2 * math.log(theta))
                low, high = max(math.floor(pair(self.beta_fast)), 0), min(math.ceil(pair(self.beta_slow)), head_dim - 1)
                share = min(1.0, max(0.0, (m - low) / (high - low + (0.001 if low == high else 0))))
                f = share * f / self.factor + (1 - share) * f
            out.append(f / self.divisors[m] if self.divisors else f)
        return out

    @property
    def magnitude(self) -> float:
        """YaRN multiplies keys and queries by it; 1 otherwise."""
        if self.scaling != "yarn":
            return 1.0
        return self.attention_factor or (0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0)


@dataclass(frozen=True)
class LlamaConfig:
    """One decoder of the Llama family, with the key names of Hugging Face."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int = 512
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    model_type: str = "llama"
    head_dim: int = 0  # 0: hidden_size / num_attention_heads
    qkv_bias: bool = False  # Qwen2
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False  # Qwen3: every head's q and k are normed before they are rotated
    rope: Rope | None = None  # None: plain, with rope_theta

    def __post_init__(self):
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        if self.rope is None:
            object.__setattr__(self, "rope", Rope(theta=self.rope_theta))

    @staticmethod
    def of(keys: dict) -> "LlamaConfig":
        """Takes the known keys of a `config.json`; leaves the others alone."""
        names = set(LlamaConfig.__dataclass_fields__) - {"rope", "qkv_bias", "o_bias", "qk_norm"}
        known = {k: keys[k] for k in names if keys.get(k) is not None}
        known.setdefault("num_key_value_heads", known["num_attention_heads"])
        known.setdefault("tie_word_embeddings", False)
        known.setdefault("model_type", "llama")
        if known["model_type"] not in FAMILIES:
            raise ValueError(f"model_type {known['model_type']!r} is not supported; supported are {', '.join(FAMILIES)}")
        bias, family = bool(keys.get("attention_bias")), known["model_type"]
        rope = Rope.of(keys)
        known["rope_theta"] = rope.theta
        return LlamaConfig(**known, rope=rope, qkv_bias=bias or family == "qwen2", o_bias=bias, qk_norm=family == "qwen3")

    @staticmethod
    def load(path: Path) -> "LlamaConfig":
        return LlamaConfig.of(json.loads(path.read_text(encoding="utf-8")))

    def hugging_face(self) -> dict:
        names = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
        plain = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                 "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")
        bias = {} if self.model_type == "qwen2" else {"attention_bias": self.qkv_bias, "mlp_bias": self.mlp_bias}
        return {"architectures": [names[self.model_type]], "model_type": self.model_type, "hidden_act": "silu", **bias,
                **self.rope.hugging_face(), **{k: getattr(self, k) for k in plain}}

    def parameters(self, layers: int | None = None) -> int:
        """Weights of the decoder (biases and norms left out); `layers`: of so many blocks and the embedding."""
        d, n = self.hidden_size, self.num_hidden_layers if layers is None else layers
        block = d * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads) + 3 * d * self.intermediate_size
        head = 0 if self.tie_word_embeddings or layers is not None else self.vocab_size * d
        return self.vocab_size * d + n * block + head


# The sizes we train ourselves. Head sizes are what the engine's kernels like: multiples of 16.
SIZES = {
    "mini": LlamaConfig(2048, 128, 320, 6, 4, 2, max_position_embeddings=512, rope_theta=1e7),  # 1.3 M: the base of the ablations
    "tiny": LlamaConfig(2048, 96, 192, 3, 3, 1, max_position_embeddings=256, rope_theta=1e6),  # the smoke preset
    "demo": LlamaConfig(4096, 256, 640, 6, 4, 2, max_position_embeddings=1024, rope_theta=1e7),  # 5.2 M
    "small": LlamaConfig(8192, 384, 1024, 8, 6, 2, max_position_embeddings=1024, rope_theta=1e6),  # 16 M
}
