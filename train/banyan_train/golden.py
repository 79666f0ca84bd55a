"""Writes the golden cases of `paper` and `nested`: tiny random models, everything computed in float64."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import nested, nested_memory, sharedllm, tensors, tree
from .config import LlamaConfig
from .memory import Memory, TreeConfig

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
    semantics: str = "paper"
    selection: str = "cosine"
    selection_layer: int = 0
    selection_heads: tuple[int, ...] = ()
    positions: str = "sum"
    slot_budget: float = 0
    budget_unit: str = "chunk"
    lora: tuple[int, float] | None = None  # rank and alpha of the lower model
    sensitive: float = 4.9  # the logits move at least so much if nothing is injected


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
    Plan("p13-token-keys-budget", 32, 128, 3, "4", "mean", layers=3, selection="token_keys", selection_layer=1,
         slot_budget=40, heads=(3, 1, 8)),
    Plan("n01-strided", 64, 192, 3, "8", "strided", layers=3, semantics="nested", heads=(3, 1, 8)),
    Plan("n02-mean-banded-token-keys", 64, 192, 3, "8", "mean", layers=3, semantics="nested", heads=(3, 1, 8),
         positions="banded", selection="token_keys", selection_layer=1),
    Plan("n03-odd-chunks-token-keys", 37, 125, 3, "4", "mean", layers=4, inject=3, lower_layers=3, semantics="nested",
         heads=(2, 1, 12), selection="token_keys", selection_layer=1, selection_heads=(1,)),
    Plan("n04-odd-strided-banded-cosine", 41, 126, 3, "3", "strided", layers=3, semantics="nested", heads=(3, 1, 8),
         positions="banded"),
    Plan("n05-budget-of-chunks", 48, 180, 2, "6", "mean", layers=3, semantics="nested", heads=(3, 1, 8),
         selection="token_keys", selection_layer=1, slot_budget=40),
    Plan("n06-budget-of-groups", 40, 150, 3, "5", "mean", layers=3, semantics="nested", heads=(3, 1, 8), positions="banded",
         selection="token_keys", selection_layer=1, slot_budget=12, budget_unit="group"),
    Plan("n07-lora-shared-base", 48, 161, 3, "0.25", "mean", layers=3, lower_layers=0, semantics="nested", heads=(3, 1, 8),
         lora=(3, 6.0), tied=True),
    Plan("n08-last-chunk-of-one", 24, 73, 4, "-1", "strided", layers=3, inject=1, lower_layers=1, semantics="nested",
         heads=(2, 1, 8), retrieval=False),
    Plan("p14-token-keys-of-two-heads", 32, 125, 3, "4", "strided", layers=3, selection="token_keys", selection_layer=1,
         selection_heads=(0, 2), heads=(3, 1, 8), query_length=9),
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
        "semantics": plan.semantics, "slot_kind": plan.slot_kind, "chunk_size": plan.chunk_size, "model_type": "llama",
        "architectures": ["SharedLLMForCausalLM"], "torch_dtype": "float32"}
    for name in ("selection", "positions", "slot_budget"):
        if getattr(plan, name) != getattr(Plan, name):
            config[name] = getattr(plan, name)
    if plan.selection == "token_keys":
        config["selection_layer"] = plan.selection_layer
        config.update({"selection_heads": list(plan.selection_heads)} if plan.selection_heads else {})
    if plan.slot_budget:
        config["budget_unit"] = plan.budget_unit
    if plan.lora:
        config.update(lower="lora", lora_rank=plan.lora[0], lora_alpha=plan.lora[1])
    elif not plan.lower_layers:
        config["encoder_weights"] = "shared"
    return config


def random_weights(config: dict, generator: torch.Generator) -> dict[str, Tensor]:
    """Scaled so that attention is peaked and the injected slots matter. Exactly float32 numbers."""
    own = "lower" not in config and config.get("encoder_weights") != "shared"
    lora = (config["lora_rank"], config["lora_alpha"]) if "lower" in config else None
    model = sharedllm.SharedLlama(
        LlamaConfig.of(config), TreeConfig(-config["num_cross_attn_layers"]),
        LlamaConfig.of(config["encoder_config"]) if own else None, None, lora)
    out = {}
    width = config["hidden_size"] ** -0.5
    gains = {"cross_attn.q_proj": 2.0, "cross_attn.o_proj": 1.5, "lora_b": 0.5, "q_proj": 1.5, "k_proj": 1.5,
             "lm_head": 3.0}
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


def smallest_gap(model: sharedllm.SharedLlama, memory: Memory, plan: Plan, document: Tensor, local: Tensor) -> float:
    """How far the closest decision was from another one: between halves, and where a budget ends."""
    if not plan.retrieval:
        return 1.0
    if plan.semantics == "nested":
        seen, ranks = gaps_of_nested(model, memory, plan, document, local)
    elif plan.selection == "cosine":
        seen, ranks = [(s.chunk(2)[0] - s.chunk(2)[1]).abs().min().item() for _, s in memory.vectors.values()], []
    else:
        chunks = tree.chunks_of(plan.length, plan.chunk_size)
        keys = [model.encode(document[None, c.start : c.end])[plan.selection_layer][0][0] for c in chunks]
        tokens = model.scores_of_tokens(keys, local, plan.query_length, plan.chunk_size)
        best = lambda node: tokens[node.start : node.end].max().item()
        seen = [abs(best(a) - best(b)) for level in memory.levels for a, b in level.pairs]
        ranks = [best(c) for c in chunks]
    if plan.slot_budget:
        ranks = sorted(ranks)
        seen += [b - a for a, b in zip(ranks, ranks[1:])]
    return min(seen, default=1.0)


def gaps_of_nested(model: sharedllm.SharedLlama, memory: Memory, plan: Plan, document: Tensor, local: Tensor,
                   ) -> tuple[list[float], list[float]]:
    """Between halves on the paths (of groups: at the end of the budget), and the ranks of the chunks."""
    chunks = nested.cut(plan.length, plan.chunk_size, plan.depth, model.tree.p)
    encoded = [nested_memory.Encoded(model, c, document[c.start : c.start + c.length]) for c in chunks]
    score = nested_memory.score_of(model, encoded, local, memory.query_vector, plan.query_length, plan.chunk_size)
    if plan.budget_unit == "group":
        ranked = sorted((score(c, nested.Span(c.depth, g, g + 1)) for c in chunks for g in range(c.groups)), reverse=True)
        return [ranked[int(plan.slot_budget) - 1] - ranked[int(plan.slot_budget)]], []
    seen: list[float] = []

    def noted(chunk: nested.Chunk, level: int, left: nested.Span, right: nested.Span) -> int:
        a, b = score(chunk, left), score(chunk, right)
        seen.append(abs(a - b))
        return tree.LEFT if a >= b else tree.RIGHT

    rows = [nested.walk(c, score, noted) for c in chunks]
    return seen, [nested.rank(s.score for s in row) for row in rows]


def describe(memory: Memory, p: int | float) -> list[dict]:
    names, out = ["left", "right"], []
    kept = {s.chunk.node(s.span): (len(s.slots), s.chunk.step) for row in memory.selected for s in row}
    counts = lambda n: kept[n] if memory.selected else (len(n.offsets(p)), n.offsets(p).step)
    for level in memory.levels:
        row: dict = {"level": level.level, "nodes": [
            {"chunk": n.chunk, "start": n.start, "end": n.end, "kept": counts(n)[0], "interval": counts(n)[1]}
            for n in level.nodes]}
        if level.pairs:
            row["compared_chunks"] = [a.chunk for a, _ in level.pairs]
            row["chosen"] = [names[c] for c in level.chosen]
            row["rejected"] = [names[1 - c] for c in level.chosen]
            if level.level in memory.vectors:
                row["similarities"] = [round(s, 8) for s in memory.vectors[level.level][1].tolist()]
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
    if memory is None:
        return None
    gap = smallest_gap(model, memory, plan, document, local)
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
    if (plain - logits).abs().max() < plan.sensitive:
        return None
    arrays = {"logits": logits, "greedy.cached.logits": cached_logits, "greedy.recomputed.logits": again_logits,
              "hidden.last": torch.stack([h[0, -1] for h in trace["hidden"]]),
              "cross_out.last": torch.stack([h[0, -1] for h in trace["cross_out"]])}
    if plan.retrieval:
        arrays["query_vector"] = memory.query_vector
    for level, (states, s) in memory.vectors.items():
        arrays[f"node_vectors.level{level}"], arrays[f"similarities.level{level}"] = states, s
    kv = []
    for i in range(plan.inject):
        three = {"k_before": memory.keys[i][0], "k_after": model.rotated(memory)[i][0], "v": memory.values[i][0]}
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
        "levels": describe(memory, model.tree.p),
        "injected": {"n_tokens": len(memory.positions), "query_position": int(memory.query),
                     "order": "document position: chunk by chunk, ascending; key position is the chunk index"},
        "kv": kv, "logits_positions": [0, plan.local], "loss": loss, "loss_window": 8,
        "greedy": {"cached": cached, "recomputed": again},
        "margins": {"similarity": gap if gap < 1 else None, "greedy_top1_top2": margin},
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
