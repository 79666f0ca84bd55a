"""Writes the golden cases of the `paper` semantics: tiny random models, everything computed in float64."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import sharedllm, tensors, tree

SIMILARITY_GAP, GREEDY_GAP, STEPS, TRIES = 0.002, 0.02, 16, 400


@dataclass(frozen=True)
class Plan:
    """What makes a case special; everything else is common."""

    name: str
    chunk_size: int
    length: int  # tokens of the document
    depth: int
    last_p: str
    slot_kind: str
    layers: int = 4
    inject: int = 2
    heads: tuple[int, int, int] = (4, 2, 8)  # query heads, kv heads, head size
    local: int = 24
    vocab: int = 96
    lower_layers: int = 2  # 0: shared with the upper model
    query_length: int | None = None
    retrieval: bool = True
    tied: bool = False
    theta: float = 10000.0


CASES = [
    Plan("p01-depth1-mean", 64, 64, 1, "8", "mean", layers=3, inject=1, heads=(4, 4, 8), lower_layers=1),
    Plan("p02-three-chunks-mean", 64, 192, 2, "8", "mean"),
    Plan("p03-depth3-strided", 64, 192, 3, "8", "strided"),
    Plan("p04-depth4-ragged-deep-lower", 64, 151, 4, "4", "mean", layers=3, lower_layers=4, heads=(3, 1, 8)),
    Plan("p05-last-chunk-of-one", 32, 65, 3, "0.25", "strided"),
    Plan("p06-odd-spans", 37, 125, 3, "5", "mean", inject=3, heads=(3, 1, 8), lower_layers=3),
    Plan("p07-odd-spans-strided", 37, 125, 4, "2", "strided", heads=(2, 1, 16)),
    Plan("p08-keep-all-shared", 24, 61, 2, "-1", "mean", inject=3, lower_layers=0),
    Plan("p09-300-chunks", 8, 2400, 2, "1", "mean", layers=3, inject=1, heads=(2, 1, 8), lower_layers=1, vocab=64),
    Plan("p10-one-token-local", 64, 133, 3, "8", "mean", heads=(2, 1, 16), local=1),
    Plan("p11-query-length-tied", 64, 192, 3, "0.2", "mean", lower_layers=0, query_length=10, tied=True, theta=5e5),
    Plan("p12-no-retrieval", 40, 93, 3, "6,6", "strided", retrieval=False, heads=(4, 1, 8)),
]


def config_of(plan: Plan) -> dict:
    heads, groups, size = plan.heads
    common = {
        "vocab_size": plan.vocab, "hidden_size": heads * size, "intermediate_size": 32, "num_attention_heads": heads,
        "num_key_value_heads": groups, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
        "rope_theta": plan.theta, "rope_scaling": None, "attention_bias": False, "tie_word_embeddings": plan.tied,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    lower = {**common, "num_hidden_layers": plan.lower_layers or plan.inject}
    config = {
        **common, "num_hidden_layers": plan.layers, "encoder_config": lower, "num_cross_attn_layers": -plan.inject,
        "segment_tree_depth": plan.depth, "last_p": plan.last_p, "do_retrieval": plan.retrieval,
        "semantics": "paper", "slot_kind": plan.slot_kind, "chunk_size": plan.chunk_size, "model_type": "llama",
        "architectures": ["SharedLLMForCausalLM"], "torch_dtype": "float32"}
    if not plan.lower_layers:
        config["encoder_weights"] = "shared"
    return config


def random_weights(config: dict, generator: torch.Generator) -> dict[str, Tensor]:
    """Scaled so that attention is peaked and the injected slots matter. Exactly float32 numbers."""
    model = sharedllm.SharedLlama(
        sharedllm.LlamaConfig.of(config), sharedllm.TreeConfig(-config["num_cross_attn_layers"]),
        None if config.get("encoder_weights") == "shared" else sharedllm.LlamaConfig.of(config["encoder_config"]))
    out = {}
    width = config["hidden_size"] ** -0.5
    gains = {"cross_attn.q_proj": 2.0, "cross_attn.o_proj": 1.5, "q_proj": 1.5, "k_proj": 1.5, "lm_head": 3.0}
    for name, p in model.state_dict().items():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1:
            out[name] = 1 + 0.2 * noise
        elif "embed_tokens" in name:
            out[name] = noise
        else:
            gain = next((g for part, g in gains.items() if part in name), 1.0)
            out[name] = noise * gain * width
    return out


def greedy_gap(logits: Tensor) -> float:
    best = logits.topk(2, -1).values
    return (best[:, 0] - best[:, 1]).min().item()


def checksums(x: Tensor) -> dict[str, float]:
    flat = x.flatten()
    weight = 1 + torch.arange(len(flat)) % 97
    return {"n": len(flat), "sum": flat.sum().item(), "abs_sum": flat.abs().sum().item(),
            "sq_sum": flat.square().sum().item(), "weighted_sum": (flat * weight).sum().item()}


def describe(levels: list[tree.Level], p: int | float, similarities: dict) -> list[dict]:
    names, out = ["left", "right"], []
    for level in levels:
        row: dict = {"level": level.level, "nodes": [
            {"chunk": n.chunk, "start": n.start, "end": n.end, "kept": len(n.offsets(p)), "interval": n.offsets(p).step}
            for n in level.nodes]}
        if level.pairs:
            row["compared_chunks"] = [a.chunk for a, _ in level.pairs]
            row["chosen"] = [names[c] for c in level.chosen]
            row["rejected"] = [names[1 - c] for c in level.chosen]
            if level.level in similarities:
                row["similarities"] = [round(s, 8) for s in similarities[level.level][1].tolist()]
        out.append(row)
    return out


@torch.no_grad()
def attempt(plan: Plan, seed: int) -> dict | None:
    """All files of a case, or None if a decision would be too close."""
    generator = torch.Generator().manual_seed(seed)
    config = config_of(plan)
    weights = random_weights(config, generator)
    model = sharedllm.build(config, weights, torch.float64)
    document = torch.randint(3, plan.vocab, (plan.length,), generator=generator)
    local = torch.randint(3, plan.vocab, (plan.local,), generator=generator)
    memory = model.read(document, local, plan.chunk_size, plan.query_length)
    gap = min([(s.chunk(2)[0] - s.chunk(2)[1]).abs().min().item() for _, s in memory.vectors.values()], default=1.0)
    if gap < SIMILARITY_GAP:
        return None
    cached, cached_logits = model.generate(local, memory, STEPS, True)
    again, again_logits = model.generate(local, memory, STEPS, False)
    margin = greedy_gap(cached_logits)
    if margin < GREEDY_GAP:
        return None
    assert cached == again and torch.equal(cached_logits, again_logits)
    trace: dict = {}
    logits = model(local[None], memory, trace=trace)[0]
    window = min(8, plan.local - 1)
    loss = torch.nn.functional.cross_entropy(logits[-window - 1 : -1], local[-window:]).item() if window else None
    plain = model(local[None])[0]
    p = model.tree.p
    arrays = {"logits": logits, "greedy.cached.logits": cached_logits, "greedy.recomputed.logits": again_logits,
              "hidden.last": torch.stack([h[0, -1] for h in trace["hidden"]]),
              "cross_out.last": torch.stack([h[0, -1] for h in trace["cross_out"]])}
    if plan.retrieval:
        arrays["query_vector"] = memory.query_vector
    for level, (states, s) in memory.vectors.items():
        arrays[f"node_vectors.level{level}"], arrays[f"similarities.level{level}"] = states, s
    kv = []
    for i in range(plan.inject):
        three = {"k_before": memory.keys[i][0], "k_after": memory.rotated(i, model.config)[0], "v": memory.values[i][0]}
        arrays.update({f"kv.{i}.{name}": x for name, x in three.items()})
        kv.append({"layer": i, "shape": list(three["v"].shape), **{name: checksums(x) for name, x in three.items()}})
    stored = {name: x.float() for name, x in arrays.items()}
    stored["injected_positions"] = torch.tensor(memory.positions, dtype=torch.int32)
    stored["injected_chunks"] = memory.row[0].to(torch.int32)
    whole = plan.length % plan.chunk_size == 0
    expected = {
        "case": plan.name, "seed": seed,
        "produced_by": {"what": "float64 reference of train/banyan_train; weights are exactly the float32 values of "
                                "model.safetensors; results rounded to float32"},
        "n_ctx": int(memory.query) - 1, "chunk_size": plan.chunk_size, "document_len": plan.length, "depth": plan.depth,
        "last_p": plan.last_p, "slot_kind": plan.slot_kind, "do_retrieval": plan.retrieval, "M": plan.inject,
        "local_len": plan.local, "head_dim": plan.heads[2], "query_token_index": (plan.query_length or plan.local) - 1,
        "levels": describe(memory.levels, p, memory.vectors),
        "injected": {"n_tokens": len(memory.positions), "query_position": int(memory.query),
                     "order": "document position: chunk by chunk, ascending; key position is the chunk index"},
        "kv": kv, "logits_positions": [0, plan.local], "loss": loss, "loss_window": 8,
        "greedy": {"cached": cached, "recomputed": again},
        "margins": {"similarity": gap if memory.vectors else None, "greedy_top1_top2": margin},
        "sensitivity": {"what": "largest logit change if nothing is injected",
                        "no_memory": (plain - logits).abs().max().item()}}
    inputs = {
        "encoder_input_ids": [document.view(-1, plan.chunk_size).tolist()] if whole else None,
        "document_ids": document.tolist(), "encoder_attention_mask": None, "input_ids": [local.tolist()],
        "query_length": plan.query_length, "loss_window": 8, "max_new_tokens": STEPS}
    if plan.tied:
        weights.pop("lm_head.weight", None)
    return {"config.json": config, "inputs.json": inputs, "expected.json": expected,
            "model.safetensors": weights, "expected.safetensors": stored}


def write_all(output: Path, seed: int) -> None:
    for number, plan in enumerate(CASES):
        for tried in range(TRIES):
            files = attempt(plan, seed + 1000 * number + tried)
            if files:
                break
        else:
            raise SystemExit(f"{plan.name}: no seed with clear decisions")
        folder = output / plan.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            if name.endswith(".json"):
                (folder / name).write_text(json.dumps(value, indent=None) + "\n", encoding="utf-8")
            else:
                tensors.write(folder / name, value)
        size = sum(f.stat().st_size for f in folder.iterdir())
        want = files["expected.json"]
        print(f"{plan.name}: try {tried + 1}, {size // 1024} KB, slots {want['injected']['n_tokens']}, "
              f"{want['margins']}, without memory {want['sensitivity']['no_memory']:.1f}", flush=True)
