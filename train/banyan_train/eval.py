"""Measures a base with a SharedLLM adapter: planted facts at many lengths and ways of choosing, and text.

Ways: `own` is the adapter's rule; `random` any path; `oracle` opens the span that holds the fact; `closed` opens the
other half of its chunk; `uniform` has slots of equal size, as many as a path leaves; `all` every token as a slot (no
thinning); `groups` (token keys of `nested`) injects the best fine groups only, no path at all.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import bases, data, export
from .grains import Grains
from .memory import Memory
from .sharedllm import SharedLlama
from .synthetic import Lookups


class Document:
    """A text with facts, all its slots, and what every question is answered under every way of choosing."""

    def __init__(self, model: SharedLlama, ids: np.ndarray, budget: int, whole: int):
        device = next(model.parameters()).device
        self.model, self.budget, self.n = model, budget, len(ids)
        self.index, self.total = torch.arange(self.n, device=device)[None], torch.tensor([self.n], device=device)
        self.grains = Grains(model, torch.from_numpy(ids).to(device), model.tree.depth)
        memory = lambda picked: self.grains.memory(picked, self.index, self.total)
        self.fixed = {"uniform": memory(self.grains.uniform())}
        if self.n <= whole:
            self.fixed["all"] = memory(self.grains.unthinned())

    def of_paths(self, paths: Tensor) -> Memory:
        return self.grains.memory(self.grains.pick(paths), self.index, self.total)

    def memories(self, local: Tensor, chunk: int, truth: list[int], rng: np.random.Generator) -> tuple[dict[str, Memory], Tensor]:
        """The memory of every way, and the adapter's own paths. `truth`: the halves that lead to the fact, level by level."""
        own, depth = self.grains.own(local), self.model.tree.depth
        by_chance = torch.from_numpy(rng.integers(0, 2, (depth - 1, self.n))).to(own.device)
        oracle, closed = by_chance.clone(), by_chance.clone()
        if truth:
            oracle[:, chunk] = torch.tensor(truth, device=own.device)
            closed[0, chunk] = 1 - truth[0]
        out = {name: self.of_paths(p) for name, p in (("own", own), ("random", by_chance), ("oracle", oracle), ("closed", closed))}
        out.update(self.fixed)
        tree = self.model.tree
        if tree.semantics == "nested" and tree.selection == "token_keys" and self.budget:
            out["groups"] = self.grains.best_groups(local, self.budget)
        return out, own


@torch.no_grad()
def lookups(model: SharedLlama, base: bases.Base, valid: dict[str, np.ndarray], n: int, documents: int, facts: int,
            rng: np.random.Generator, canonical: bool = True, budget: int = 0, whole: int = 64) -> dict[str, float]:
    """Share of questions whose first greedy token is the planted value, by way of choosing. Chance is below 1 %.

    `recall{l}`: how often the adapter's own path still leads to the fact behind l comparisons (chance 1 / 2^l).
    """
    look, size, depth = Lookups(base.tokenizer, rng), model.tree.chunk_size, model.tree.depth
    texts, device = data.Slices(valid, rng), next(model.parameters()).device
    begin = [] if base.tokenizer.begin is None else [base.tokenizer.begin]
    hits: dict[str, list[bool]] = {}
    led: list[list[bool]] = []
    for _ in range(documents):
        places = 4 * n  # a fact has a quarter of a chunk for itself, so that none is cut by a span's border
        count = min(facts, places, len(look.keys))
        keys, values = look.pairs(count)
        ids = np.concatenate([texts.take(size) for _ in range(n)])
        asked = []
        for key, value, place in zip(keys, values, rng.choice(places, count, replace=False)):
            item, quarter = look.item("fact", key, value, canonical=canonical), size // 4
            at = place * quarter + int(rng.integers(0, max(1, quarter - len(item.fact) + 1)))
            fact = item.fact[: len(ids) - at]
            ids[at : at + len(fact)] = fact
            asked.append((item, at + item.place))
        document = Document(model, ids.reshape(n, size), budget, whole)
        for item, at in asked:
            local = torch.tensor([*begin, *item.question], device=device)
            chunk, offset = at // size, at % size
            truth = [offset * 2 ** (level + 1) // size % 2 for level in range(depth - 1)]
            memories, own = document.memories(local, chunk, truth, rng)
            led.append(np.cumprod([int(own[l, chunk]) == t for l, t in enumerate(truth)]).tolist())
            for way, memory in memories.items():
                hits.setdefault(way, []).append(int(model(local[None], memory)[0, -1].argmax()) == item.answer[0])
    recall = {f"recall{l + 1}": float(np.mean([r[l] for r in led])) for l in range(depth - 1)}
    return {**{way: float(np.mean(h)) for way, h in hits.items()}, **recall, "slots_per_chunk": document.grains.per_chunk,
            "trials": len(led)}


@torch.no_grad()
def text(model: SharedLlama, base: bases.Base, valid: dict[str, np.ndarray], n: int, documents: int, rng: np.random.Generator,
         local: int = 256) -> dict[str, float]:
    """Cross-entropy of the last half of the local text, and its change by the memory (the adapter's own choice)."""
    size, texts, device = model.tree.chunk_size, data.Slices(valid, rng), next(model.parameters()).device
    begin = [] if base.tokenizer.begin is None else [base.tokenizer.begin]
    plain, change = [], []
    for _ in range(documents):
        ids = torch.from_numpy(texts.take(n * size + local)).to(device)
        own = torch.cat([torch.tensor(begin, device=device, dtype=torch.long), ids[n * size :]])[None]
        grains = Grains(model, ids[: n * size].view(n, size), model.tree.depth)
        paths = grains.own(own[0, : local // 2 + len(begin)])  # chosen before anything scored is seen
        memory = grains.memory(grains.pick(paths), torch.arange(n, device=device)[None], torch.tensor([n], device=device))
        scored = slice(local // 2 + len(begin) - 1, -1)
        losses = [F.cross_entropy(model(own, m)[0, scored], own[0, local // 2 + len(begin) :]).item() for m in (None, memory)]
        plain.append(losses[0])
        change.append(losses[1] - losses[0])
    return {"loss": float(np.mean(plain)), "change": float(np.mean(change)),
            "standard_error": float(np.std(change) / max(1, len(change) - 1) ** 0.5)}


@torch.no_grad()
def in_window(model: SharedLlama, base: bases.Base, valid: dict[str, np.ndarray], rng: np.random.Generator,
              trials: int = 100) -> float:
    """One fact in the local text itself, one question, no memory."""
    look, texts, hits = Lookups(base.tokenizer, rng), data.Slices(valid, rng), []
    device = next(model.parameters()).device
    begin = [] if base.tokenizer.begin is None else [base.tokenizer.begin]
    length = min(model.config.max_position_embeddings, 1024) - 62
    for _ in range(trials):
        (key,), (value,) = look.pairs(1)
        item = look.item("fact", key, value, canonical=True)
        ids, _ = look.insert(texts.take(length), [item.fact], 0, length)
        local = torch.tensor([*begin, *ids, *item.question], device=device)
        hits.append(int(model(local[None])[0, -1].argmax()) == item.answer[0])
    return float(np.mean(hits))


def show(row: dict[str, float]) -> str:
    return " ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())


def main(args) -> dict:
    torch.set_num_threads(args.threads)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    model = export.load(base, Path(args.output)).to(args.device)
    _, valid = bases.texts_of(base, args)
    rng, result = np.random.default_rng(args.seed), {}
    local = in_window(model, base, valid, rng)
    print(f"in the window, no memory: {local:.2f}", flush=True)
    for n in map(int, args.chunks.split(",")):
        row: dict = {}
        for name, canonical in (("plain", True), ("mixed", False)):
            row[name] = lookups(model, base, valid, n, max(2, args.documents // (1 + n // 64)), args.facts, rng, canonical,
                                args.budget)
            print(f"chunks={n} forms={name} {show(row[name])}", flush=True)
        if n <= args.text_chunks:
            row["text"] = text(model, base, valid, n, 4 * args.documents, rng)
            print(f"chunks={n} text {show(row['text'])}", flush=True)
        result[n] = row
    export.write_json(Path(args.output) / "eval.json", {"in_window": local, "chunk_size": model.tree.chunk_size, "chunks": result})
    return result
