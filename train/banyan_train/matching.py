"""Which layer and heads of a base match a question with its fact.

A chunk of text holds one fact and, as decoys, facts of the same form about other keys. The question stands in a text of
its own, as it does when a memory is injected: every head's query at its last token meets the keys of the chunk, turned
as `nested` turns those of a document of one chunk. Found: the token with the largest product belongs to the right fact
(or is one of the two behind it, which know what stood before).
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import bases, data, export
from .llama import Llama, rotate, rotation
from .synthetic import Lookups

BEHIND = 2  # tokens after the fact's answer that count as the fact
GOOD = 0.8  # share of questions from which on a layer counts as matching


def projections(model: Llama, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """ids [B,L] -> per layer the unrotated queries [B,h,L,d] and keys [B,g,L,d]."""
    x, out = model.model.embed_tokens(ids), []
    cos, sin = model.model.positions(ids.shape[1])
    for block in model.model.layers:
        normed, attention = block.input_layernorm(x), block.self_attn
        out.append((attention.queries(attention.q_proj(normed)), attention.keys(attention.k_proj(normed))))
        x = block(x, cos, sin)
    return out


@torch.no_grad()
def measure(model: Llama, tokenizer: data.Encoder, texts: data.Slices, rng: np.random.Generator, trials: int, size: int,
            decoys: int = 3, filler: int = 24, batch: int = 16) -> Tensor:
    """Share of found facts [layers,h]."""
    look, device = Lookups(tokenizer, rng), next(model.parameters()).device
    begin = [] if tokenizer.begin is None else [tokenizer.begin]
    hits, done = None, 0
    while done < trials:
        chunks, questions, spans = [], [], []
        for _ in range(batch):
            items = look.items(1 + decoys, texts.take)
            room = size - sum(len(i.fact) for i in items)
            order = list(rng.permutation(len(items)))
            ids, begins = look.insert(texts.take(room), [items[i].fact for i in order], 1, room)
            asked = int(rng.integers(len(order)))
            item = items[order[asked]]
            spans.append((begins[asked] + item.place - 2, begins[asked] + item.place + len(item.answer) + BEHIND))
            chunks.append(ids)
            questions.append([*texts.take(filler), *item.question])
        longest = max(map(len, questions))  # filled up in front, so that all end together
        ids = [[*begin, *texts.take(longest - len(q)), *q] for q in questions]
        asked_at = projections(model, torch.tensor(np.array(ids), device=device))
        held = projections(model, torch.tensor(np.stack(chunks), device=device))
        first, last = torch.tensor(spans, device=device).t()
        rows = []
        for (q, _), (_, k) in zip(asked_at, held):
            q = rotate(q[:, :, -1], *rotation(model.config, torch.tensor(2, device=device), q.dtype))  # R + 1, one chunk
            k = rotate(k, *rotation(model.config, torch.arange(size, device=device), k.dtype))
            groups = k.shape[1]
            best = torch.einsum("bgad,bgtd->bgat", q.unflatten(1, (groups, -1)), k).flatten(1, 2).argmax(-1)  # [B,h]
            rows.append(((best >= first[:, None]) & (best < last[:, None])).float().sum(0))
        rows = torch.stack(rows).cpu()
        hits, done = rows if hits is None else hits + rows, done + batch
    return hits / done


def choose(found: Tensor) -> dict:
    """The first layer with a good head (else the best layer), its good heads, and M: that layer and one more inside."""
    best = found.max(1).values
    good = [i for i, b in enumerate(best.tolist()) if b >= GOOD]
    layer = good[0] if good else int(best.argmax())
    heads = [h for h, share in enumerate(found[layer].tolist()) if share >= 0.9 * best[layer].item()]
    return {"selection_layer": layer, "selection_heads": heads, "layers": min(layer + 2, len(found)), "good": bool(good),
            "found": [[round(x, 4) for x in row] for row in found.tolist()]}


def table(found: Tensor) -> str:
    heads = range(found.shape[1])
    rows = ["| layer | " + " | ".join(f"head {h}" for h in heads) + " |", "|---" * (len(heads) + 1) + "|"]
    return "\n".join(rows + [f"| {i} | " + " | ".join(f"{100 * x:.0f} %" for x in row) + " |" for i, row in enumerate(found.tolist())])


def main(args) -> dict:
    torch.set_num_threads(args.threads)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    model = Llama(base.config)
    model.load_state_dict(base.state)
    _, valid = bases.texts_of(base, args)
    rng = np.random.default_rng(args.seed)
    size = min(args.chunk_size, base.config.max_position_embeddings)
    found = measure(model.to(args.device).eval(), base.tokenizer, data.Slices(valid, rng), rng, args.trials, size)
    result = {**choose(found), "trials": args.trials, "chunk_size": size, "fingerprint": base.fingerprint()}
    print(table(found))
    print(f"layer {result['selection_layer']}, heads {result['selection_heads']}, M = {result['layers']}"
          + ("" if result["good"] else f" (no head finds {100 * GOOD:.0f} %: select by cosine, or train the base longer)"))
    if 2 * result["layers"] >= len(found):
        print(f"M is half of the model's {len(found)} layers or more: encoding a document costs as much of a full pass")
    export.write_json(Path(args.output) if args.output else base.folder / "matching.json", result)
    return result
