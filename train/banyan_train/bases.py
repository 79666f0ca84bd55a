"""Any base: a Hugging Face directory (safetensors, one file or shards) or a GGUF file, with its tokenizer.

Without a tokenizer of ours the package `tokenizers` reads `tokenizer.json`; without either, ids are all there is, and
the array of text has to be there already (`--tokens`).
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import gguf, tensors
from .bpe import Tokenizer
from .config import LlamaConfig
from .data import Encoder


class ForeignTokenizer:
    """Somebody else's `tokenizer.json`."""

    def __init__(self, path: Path, begin: int | None):
        from tokenizers import Tokenizer as Fast

        self.path, self.begin, self.fast = path, begin, Fast.from_file(str(path))

    def __len__(self) -> int:
        return self.fast.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.fast.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self.fast.decode(ids)

    def fingerprint(self) -> str:
        return hashlib.sha1(self.path.read_bytes()).hexdigest()[:12]


class Ids:
    """No tokenizer: words are made-up ids, the same for the same word. Only for bases without one."""

    def __init__(self, size: int, begin: int | None):
        self.size, self.begin = size, begin

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str) -> list[int]:
        low = min(300, self.size // 3)  # the ids before are special or bytes in most vocabularies
        number = lambda word: low + int.from_bytes(hashlib.sha1(word.encode()).digest()[:4], "big") % (self.size - low)
        return [number(word) for word in text.split()] or [low]

    def fingerprint(self) -> str:
        return f"ids{self.size}"


@dataclass
class Base:
    config: LlamaConfig
    state: dict[str, Tensor]  # float32, names of Hugging Face
    tokenizer: Encoder
    source: Path

    @property
    def folder(self) -> Path:
        """Where files about the base lie: its directory, or that of its file."""
        return self.source.parent if self.source.is_file() else self.source

    def fingerprint(self) -> str:
        """Of the weights: an adapter says which base it was trained on."""
        digest = hashlib.sha256()
        for name in sorted(self.state):
            x = self.state[name].flatten()
            digest.update(f"{name} {tuple(self.state[name].shape)}".encode())
            digest.update(x[:: max(1, len(x) // 4096)].half().numpy().tobytes())
        return digest.hexdigest()[:16]

    def described(self) -> dict:
        """The `base` object of an adapter_config.json."""
        c = self.config
        return {"model_type": c.model_type, "hidden_size": c.hidden_size, "num_hidden_layers": c.num_hidden_layers,
                "vocab_size": c.vocab_size, "fingerprint": self.fingerprint()}


def tokenizer_of(path: Path | None, size: int, begin: int | None) -> Encoder:
    if path is None or not path.exists():
        return Ids(size, begin)
    try:
        return Tokenizer.load(path)
    except (AssertionError, KeyError, ValueError):
        return ForeignTokenizer(path, begin)


def inside(meta: dict) -> Tokenizer | None:
    """The tokenizer of a GGUF file's metadata, if it is one of ours."""
    tokenizer = Tokenizer([tuple(m.split(" ")) for m in meta.get("tokenizer.ggml.merges", [])])
    return tokenizer if tokenizer.tokens == meta.get("tokenizer.ggml.tokens") else None


def load(path: Path, tokenizer: Path | None = None) -> Base:
    """`tokenizer`: a tokenizer.json that belongs to the base, if it does not lie beside the weights."""
    if path.suffix == ".gguf":
        config, state, meta = gguf.read(path)
        begin = meta.get("tokenizer.ggml.bos_token_id")
        own = None if tokenizer else inside(meta)
        beside = tokenizer or path.with_name("tokenizer.json")
        return Base(config, state, own or tokenizer_of(beside, config.vocab_size, begin), path)
    config = LlamaConfig.load(path / "config.json")
    begin = json.loads((path / "config.json").read_text(encoding="utf-8")).get("bos_token_id")
    index = path / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    state: dict[str, Tensor] = {}
    for name in names:
        state.update(tensors.read(path / name))
    state = {k: v.float() for k, v in state.items() if k != "lm_head.weight" or not config.tie_word_embeddings}
    return Base(config, state, tokenizer_of(tokenizer or path / "tokenizer.json", config.vocab_size, begin), path)


def texts_of(base: Base, args) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and validation tokens: text files of --data, or the array --tokens (.npy), of which the last tenth is
    kept out."""
    from . import data

    if getattr(args, "tokens", ""):
        ids = np.load(args.tokens, mmap_mode="r")
        border = len(ids) * 9 // 10
        return {"tokens": ids[:border]}, {"tokens": ids[border:]}
    if isinstance(base.tokenizer, Ids):
        raise SystemExit(f"{base.source} has no tokenizer that can be used here; give --tokenizer or --tokens")
    return data.load(base.tokenizer, Path(args.data), Path(args.work) / "tokens", args.megabytes, args.workers)
