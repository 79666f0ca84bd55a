"""Reading and writing GGUF files of the Llama family in F32, F16 and BF16, names turned into Hugging Face's.

Rows of q and k: files of the architecture `llama` hold them so that neighbouring rows are a pair of RoPE; here, as in
safetensors, row m and row m + d/2 are one.
"""
from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .config import LlamaConfig, Rope

MAGIC, ALIGNMENT = b"GGUF", 32
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", U32: "<I", 5: "<i", F32: "<f", BOOL: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TENSORS = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 30: np.dtype("<i2")}  # F32, F16, BF16
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
PARTS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def hugging_face_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{PARTS[parts[2]]}.{parts[3]}"
    return f"{TOP[parts[0]]}.{parts[1]}"


def pairs_apart(x: Tensor, heads: int, back: bool = False) -> Tensor:
    """Neighbouring rows of every head -> rows m and m + d/2; `back`: the other way."""
    shape, d = x.shape, x.shape[0] // heads
    x = x.reshape(heads, 2, d // 2, -1) if back else x.reshape(heads, d // 2, 2, -1)
    return x.transpose(1, 2).reshape(shape)


class Reader:
    def __init__(self, path: Path):
        self.path, self.data, self.at = path, np.memmap(path, dtype=np.uint8, mode="r"), 0
        if bytes(self.take(4)) != MAGIC:
            raise ValueError(f"{path} is not a GGUF file")
        version = self.scalar(U32)
        if version not in (2, 3):
            raise ValueError(f"{path}: version {version} of GGUF is not supported")
        tensors, keys = self.scalar(10), self.scalar(10)
        self.metadata = {self.string(): self.value(self.scalar(U32)) for _ in range(keys)}
        self.tensors = {}
        for _ in range(tensors):
            name, shape = self.string(), None
            shape = [self.scalar(10) for _ in range(self.scalar(U32))][::-1]
            self.tensors[name] = shape, self.scalar(U32), self.scalar(10)
        align = self.metadata.get("general.alignment", ALIGNMENT)
        self.begin = -(-self.at // align) * align

    def take(self, count: int) -> np.ndarray:
        if self.at + count > len(self.data):
            raise ValueError(f"{self.path} ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def scalar(self, kind: int):
        form = SCALARS[kind]
        return struct.unpack(form, bytes(self.take(struct.calcsize(form))))[0]

    def string(self) -> str:
        return bytes(self.take(self.scalar(10))).decode("utf-8", "replace")

    def value(self, kind: int):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            of, count = self.scalar(U32), self.scalar(10)
            return [self.string() if of == STRING else self.scalar(of) for _ in range(count)]
        return self.scalar(kind)

    def tensor(self, name: str) -> Tensor:
        shape, kind, offset = self.tensors[name]
        if kind not in TENSORS:
            raise ValueError(f"{self.path}: tensor {name} is quantized (type {kind}); training needs F32, F16 or BF16")
        dtype, begin = TENSORS[kind], self.begin + offset
        raw = self.data[begin : begin + int(np.prod(shape)) * dtype.itemsize]
        x = torch.from_numpy(np.frombuffer(raw.tobytes(), dtype=dtype).copy())
        return (x.view(torch.bfloat16) if kind == 30 else x).reshape(shape).float()


def read(path: Path) -> tuple[LlamaConfig, dict[str, Tensor], dict]:
    """Settings, tensors (float32, names and row order of Hugging Face) and all metadata."""
    file = Reader(path)
    meta, arch = file.metadata, file.metadata.get("general.architecture", "")
    if arch not in ("llama", "qwen2", "qwen3"):
        raise ValueError(f"{path}: architecture {arch!r} is not supported; supported are llama, qwen2 and qwen3")
    key = lambda name, default=None: meta.get(f"{arch}.{name}", default)
    heads = key("attention.head_count")
    groups = key("attention.head_count_kv", heads)
    head_dim = key("attention.key_length", key("embedding_length") // heads)
    kind, factor = key("rope.scaling.type", "linear"), key("rope.scaling.factor", 0.0) or key("rope.scale_linear", 0.0) or 1.0
    rope = Rope(theta=key("rope.freq_base", 10000.0))
    if kind == "yarn":
        rope = Rope(rope.theta, "yarn", factor, key("rope.scaling.original_context_length", key("context_length")))
    elif kind == "linear" and factor != 1.0:
        rope = Rope(rope.theta, "linear", factor)
    elif kind not in ("linear", "none"):
        raise ValueError(f"{path}: rope scaling {kind!r} is not supported")
    if "rope_freqs.weight" in file.tensors:
        rope = Rope(rope.theta, rope.scaling, rope.factor, rope.original_window,
                    divisors=tuple(file.tensor("rope_freqs.weight").tolist()))
    state = {}
    for name in file.tensors:
        if name == "rope_freqs.weight":
            continue
        x = file.tensor(name)
        if arch == "llama" and ".attn_q." in name:
            x = pairs_apart(x, heads)
        if arch == "llama" and ".attn_k." in name:
            x = pairs_apart(x, groups)
        state[hugging_face_name(name)] = x
    config = LlamaConfig(
        vocab_size=len(state["model.embed_tokens.weight"]), hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"), num_attention_heads=heads,
        num_key_value_heads=groups, head_dim=head_dim, max_position_embeddings=key("context_length"), rope_theta=rope.theta,
        rope=rope, rms_norm_eps=key("attention.layer_norm_rms_epsilon", 1e-5), tie_word_embeddings="lm_head.weight" not in state,
        model_type=arch, qkv_bias="model.layers.0.self_attn.q_proj.bias" in state,
        o_bias="model.layers.0.self_attn.o_proj.bias" in state, mlp_bias="model.layers.0.mlp.gate_proj.bias" in state,
        qk_norm="model.layers.0.self_attn.q_norm.weight" in state)
    return config, state, meta


def put(out: BinaryIO, value, kind: int | None = None, of: int | None = None) -> None:
    """A value, its type before it unless `kind` says that the reader knows."""
    found = STRING if isinstance(value, str) else BOOL if isinstance(value, bool) else U32 if isinstance(
        value, int) else F32 if isinstance(value, float) else ARRAY
    if kind is None:
        out.write(struct.pack("<I", found))
    if found == STRING:
        raw = value.encode("utf-8")
        out.write(struct.pack("<Q", len(raw)) + raw)
    elif found == ARRAY:
        of = STRING if isinstance(value[0], str) else 5
        out.write(struct.pack("<IQ", of, len(value)))
        for item in value:
            put(out, item, STRING) if of == STRING else out.write(struct.pack("<i", item))
    else:
        out.write(struct.pack(SCALARS[found], value))


def metadata_of(config: LlamaConfig, tokenizer, name: str, half: bool) -> dict:
    """The keys of a file; `tokenizer`: our own byte-level BPE, or None."""
    if config.rope.scaling not in ("none", "linear", "yarn"):
        raise ValueError(f"rope scaling {config.rope.scaling!r} is not written to GGUF")
    arch = "llama" if config.model_type == "mistral" else config.model_type
    out = {
        "general.architecture": arch, "general.name": name, "general.file_type": 1 if half else 0,
        f"{arch}.block_count": config.num_hidden_layers, f"{arch}.context_length": config.max_position_embeddings,
        f"{arch}.embedding_length": config.hidden_size, f"{arch}.feed_forward_length": config.intermediate_size,
        f"{arch}.attention.head_count": config.num_attention_heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads, f"{arch}.attention.key_length": config.head_dim,
        f"{arch}.attention.value_length": config.head_dim, f"{arch}.rope.dimension_count": config.head_dim,
        f"{arch}.rope.freq_base": float(config.rope.theta),
        f"{arch}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps), f"{arch}.vocab_size": config.vocab_size}
    if config.rope.scaling != "none":
        out[f"{arch}.rope.scaling.type"], out[f"{arch}.rope.scaling.factor"] = config.rope.scaling, float(config.rope.factor)
    if config.rope.scaling == "yarn":
        out[f"{arch}.rope.scaling.original_context_length"] = config.rope.original_window
    if tokenizer is not None:
        from .bpe import BEGIN, END, SPECIAL
        from .export import CHAT

        out.update({
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokenizer.tokens,
            "tokenizer.ggml.token_type": [3 if i < len(SPECIAL) else 1 for i in range(len(tokenizer))],  # control, normal
            "tokenizer.ggml.merges": [f"{a} {b}" for a, b in tokenizer.merges], "tokenizer.ggml.bos_token_id": BEGIN,
            "tokenizer.ggml.eos_token_id": END, "tokenizer.ggml.add_bos_token": True,
            "tokenizer.chat_template": CHAT})
    return out


def write(path: Path, config: LlamaConfig, state: dict[str, Tensor], tokenizer, name: str,
          dtype: torch.dtype = torch.float16) -> None:
    """`state` with the names of Hugging Face; matrices as `dtype` (float32 or float16), vectors always float32."""
    meta = metadata_of(config, tokenizer, name, dtype == torch.float16)
    arch, back = meta["general.architecture"], {v: k for k, v in PARTS.items()} | {v: k for k, v in TOP.items()}
    blobs, entries, offset = [], [], 0
    for key, x in sorted(state.items()):
        if arch == "llama" and ".self_attn.q_proj" in key:
            x = pairs_apart(x, config.num_attention_heads, back=True)
        if arch == "llama" and ".self_attn.k_proj" in key:
            x = pairs_apart(x, config.num_key_value_heads, back=True)
        stem, suffix = key.rsplit(".", 1)
        parts = stem.split(".")
        short = f"blk.{parts[2]}.{back['.'.join(parts[3:])]}" if parts[1:2] == ["layers"] else back[stem]
        x = x.detach().cpu().to(dtype if x.dim() > 1 else torch.float32).contiguous()
        blob = x.numpy().tobytes()
        entries.append((f"{short}.{suffix}", list(x.shape)[::-1], 1 if x.dtype == torch.float16 else 0, offset))
        blobs.append(blob + b"\0" * (-len(blob) % ALIGNMENT))
        offset += len(blobs[-1])
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as out:
        out.write(MAGIC + struct.pack("<IQQ", 3, len(entries), len(meta)))
        for key, value in meta.items():
            put(out, key, STRING)
            put(out, value)
        for short, shape, kind, at in entries:
            put(out, short, STRING)
            out.write(struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, at))
        out.write(b"\0" * (-out.tell() % ALIGNMENT))
        for blob in blobs:
            out.write(blob)
    partial.replace(path)
