"""Writing models and adapters as directories."""
from __future__ import annotations

import json
from pathlib import Path

import torch

from . import tensors
from .bpe import BEGIN, END, SPECIAL
from .llama import Llama

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
