"""Settings of the models, as they stand in `config.json`."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LlamaConfig:
    """One Llama decoder, with the key names of Hugging Face."""

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

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @staticmethod
    def of(keys: dict) -> "LlamaConfig":
        """Takes the known keys of a `config.json`; leaves the others alone."""
        known = {k: keys[k] for k in LlamaConfig.__dataclass_fields__ if keys.get(k) is not None}
        known.setdefault("num_key_value_heads", known["num_attention_heads"])
        known.setdefault("tie_word_embeddings", False)
        return LlamaConfig(**known)

    @staticmethod
    def load(path: Path) -> "LlamaConfig":
        return LlamaConfig.of(json.loads(path.read_text(encoding="utf-8")))

    def hugging_face(self) -> dict:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "rope_scaling": None,
            **asdict(self),
        }


DEMO = LlamaConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rope_theta=1e7,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
)
