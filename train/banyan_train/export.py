"""Writing models and adapters as directories."""
from __future__ import annotations

import json
from pathlib import Path

import torch

from . import focusllm, tensors
from .bpe import BEGIN, END, SPECIAL
from .config import LlamaConfig
from .llama import Llama
from .sharedllm import SharedLlama, TreeConfig

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


def adapter(model: SharedLlama, folder: Path, dtype: torch.dtype = torch.float16, matching: str = "") -> None:
    """What was trained beside the base: cross-attention, and the own lower model if there is one.

    `matching` ("LAYER:HEAD,HEAD") names the heads whose keys the engine selects by; empty: the paper's cosine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: p.detach().cpu().to(dtype) for name, p in model.state_dict().items()
             if "cross_attn" in name or name.startswith("encoder.")}
    tensors.write(folder / "adapter.safetensors", state, {"format": "pt"})
    t, c = model.tree, model.config
    selection: dict[str, object] = {}
    if matching:
        layer, _, heads = matching.partition(":")
        selection = {"selection": "token_keys", "selection_layer": int(layer),
                     "selection_heads": [int(head) for head in heads.split(",") if head]}
    write_json(folder / "adapter_config.json", {
        "format": "banyan-adapter", "version": 1, "method": "sharedllm", "semantics": t.semantics,
        "slot_kind": t.slot_kind, "num_cross_attn_layers": -t.layers, "segment_tree_depth": t.depth,
        "last_p": t.last_p, "chunk_size": t.chunk_size, "do_retrieval": t.do_retrieval,
        "lower": "shared" if model.encoder is None else "own", **selection,
        "base": {"model_type": "llama", "hidden_size": c.hidden_size, "num_hidden_layers": c.num_hidden_layers,
                 "vocab_size": c.vocab_size}})


def focus(model: focusllm.FocusLlama, folder: Path, chunk_size: int, cap: int, dtype: torch.dtype = torch.float16) -> None:
    """The candidate projections; chunk size and length of the query are what an engine starts with."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: p.detach().cpu().to(dtype) for name, p in model.state_dict().items() if "beacon_" in name}
    tensors.write(folder / "adapter.safetensors", state, {"format": "pt"})
    c = model.config
    write_json(folder / "adapter_config.json", {
        "format": "banyan-adapter", "version": 1, "method": "focusllm",
        "base": {"model_type": "llama", "hidden_size": c.hidden_size, "num_hidden_layers": c.num_hidden_layers,
                 "vocab_size": c.vocab_size},
        "beacon_param": list(model.beacon), "chunk_size": chunk_size, "query_cap": cap})


def load_focus(base_folder: Path, adapter_folder: Path, dtype: torch.dtype = torch.float32) -> focusllm.FocusLlama:
    """A base with the candidate projections of an adapter."""
    keys = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    state = {**tensors.read(base_folder / "model.safetensors"), **tensors.read(adapter_folder / "adapter.safetensors")}
    return focusllm.build({**config, "beacon_param": keys["beacon_param"]}, state, dtype).eval()


def load(base_folder: Path, adapter_folder: Path, dtype: torch.dtype = torch.float32) -> SharedLlama:
    """The model that both directories describe together."""
    keys = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    config = LlamaConfig.load(base_folder / "config.json")
    tree = TreeConfig(layers=-keys["num_cross_attn_layers"], depth=keys["segment_tree_depth"], last_p=keys["last_p"],
                      do_retrieval=keys["do_retrieval"], semantics=keys["semantics"], slot_kind=keys["slot_kind"],
                      chunk_size=keys["chunk_size"])
    own = keys["lower"] == "own"
    model = SharedLlama(config, tree, config if own else None, tree.layers if own else None)
    state = {**tensors.read(base_folder / "model.safetensors"), **tensors.read(adapter_folder / "adapter.safetensors")}
    if own and "encoder.embed_tokens.weight" not in state:
        state["encoder.embed_tokens.weight"] = state["model.embed_tokens.weight"]
    model.to(dtype).load_state_dict({k: v.to(dtype) for k, v in state.items()})
    return model.eval()
