"""Writing models and adapters as directories."""
from __future__ import annotations

import json
from pathlib import Path

import torch

from . import bases, focusllm, sharedllm, tensors
from .bpe import BEGIN, END, SPECIAL
from .llama import Llama
from .memory import TreeConfig
from .sharedllm import SharedLlama

CHAT = ("{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
        "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}")


def write_json(path: Path, value: dict) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def base(model: Llama, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """A Hugging Face model directory (the tokenizer itself is written by `tokenizer`)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: p.detach().cpu().to(dtype) for name, p in model.state_dict().items()}
    name = str(dtype).split(".")[1]
    tensors.write(folder / "model.safetensors", state, {"format": "pt"})
    write_json(folder / "config.json", {**model.config.hugging_face(), "torch_dtype": name,
                                        "bos_token_id": BEGIN, "eos_token_id": END})
    write_json(folder / "generation_config.json", {"bos_token_id": BEGIN, "eos_token_id": END, "do_sample": False})
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BEGIN], "eos_token": SPECIAL[END],
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.max_position_embeddings, "chat_template": CHAT})


def adapter(model: SharedLlama, folder: Path, base: dict, dtype: torch.dtype = torch.float16) -> None:
    """What was trained beside the base: cross-attention, and the lower model if it has weights of its own.

    `base`: what the adapter belongs to (`bases.Base.described`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: p.detach().cpu().to(dtype) for name, p in model.state_dict().items()
             if "cross_attn" in name or name.startswith("encoder.")}
    tensors.write(folder / "adapter.safetensors", state, {"format": "pt"})
    lower: dict[str, object] = {"lower": model.lower_kind}
    if model.lower_kind == "lora":
        lower.update(lora_rank=model.encoder.rank, lora_alpha=model.encoder.alpha)
    write_json(folder / "adapter_config.json", {"format": "banyan-adapter", "version": 1, "method": "sharedllm",
                                                **model.tree.hugging_face(), **lower, "base": base})


def focus(model: focusllm.FocusLlama, folder: Path, base: dict, chunk_size: int, cap: int,
          dtype: torch.dtype = torch.float16) -> None:
    """The candidate projections; chunk size and length of the query are what an engine starts with."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: p.detach().cpu().to(dtype) for name, p in model.state_dict().items() if "beacon_" in name}
    tensors.write(folder / "adapter.safetensors", state, {"format": "pt"})
    write_json(folder / "adapter_config.json", {
        "format": "banyan-adapter", "version": 1, "method": "focusllm", "base": base,
        "beacon_param": list(model.beacon), "chunk_size": chunk_size, "query_cap": cap})


def load_focus(base: bases.Base, adapter_folder: Path, dtype: torch.dtype = torch.float32) -> focusllm.FocusLlama:
    """A base with the candidate projections of an adapter."""
    keys = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    state = {**base.state, **tensors.read(adapter_folder / "adapter.safetensors")}
    return focusllm.of_config(base.config, "".join(keys["beacon_param"]), state, dtype).eval()


def load(base: bases.Base, adapter_folder: Path, dtype: torch.dtype = torch.float32) -> SharedLlama:
    """The model that a base and an adapter's directory describe together."""
    keys = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    tree, kind = TreeConfig.of(keys), keys.get("lower", "shared")
    lora = (keys["lora_rank"], keys["lora_alpha"]) if kind == "lora" else None
    model = SharedLlama(base.config, tree, base.config if kind == "own" else None, tree.layers, lora)
    sharedllm.load(model, {**base.state, **tensors.read(adapter_folder / "adapter.safetensors")}, dtype)
    return model.eval()
