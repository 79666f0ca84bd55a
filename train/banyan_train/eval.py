"""Measures a model with its adapter: planted facts at many lengths and ways of choosing, and text.

Ways: `cosine` is the model's own choice, `oracle` opens the half that holds the fact, `closed` the other half,
`random` any; `uniform` opens nothing (every half at the coarse grain, fewer slots) as a control.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import data, export, tree
from .bpe import BEGIN, Tokenizer
from .sharedllm import Memory, SharedLlama
from .synthetic import Lookups

WAYS = ["cosine", "random", "oracle", "closed", "uniform"]


class Both:
    """All slots of one document at depth 2, so that any choice is only a matter of picking.

    ids [n,C]; memories where every chunk chose left, and where every chunk chose right.
    """

    def __init__(self, model: SharedLlama, ids: Tensor):
        assert model.tree.depth == 2, "the evaluation knows depth 2 only"
        self.model, self.n = model, len(ids)
        n = self.n
        index = torch.arange(n)[None]
        sides: list[list[Memory]] = [[], []]
        for start in range(0, n, 32):  # in pieces, to save memory
            part = ids[start : start + 32][None]
            for side in (0, 1):
                path = torch.full((1, 1, part.shape[1]), side)
                sides[side].append(model.read_batch(part, path, index[:, start : start + 32], torch.tensor([n])))
        self.sides = [self.join(parts) for parts in sides]
        halves = torch.cat(ids.chunk(2, 1), 0)
        self.vectors = torch.cat([model.node_vectors(h) for h in halves.split(64)])

    def join(self, parts: list[Memory]) -> dict:
        """Per layer keys and values as [g,n,3 nodes,slots,d]: rejected half, left leaf, right leaf."""
        out: dict = {"keys": [], "values": []}
        for name, stores in (("keys", [p.keys for p in parts]), ("values", [p.values for p in parts])):
            for i in range(self.model.tree.layers):
                pieces = []
                for store in stores:
                    x = store[i][0]  # [g, 3*count*slots, d]: nodes, chunks, slots
                    count = self.counted(x.shape[1])
                    pieces.append(x.unflatten(1, (3, count, -1)).transpose(1, 2))
                out[name].append(torch.cat(pieces, 1))
        return out

    def counted(self, slots: int) -> int:
        return slots // (3 * self.per_node)

    @property
    def per_node(self) -> int:
        c, p = self.model.tree.chunk_size, self.model.tree.p
        sizes = {len(range(0, length, tree.step_of(length, p))) for length in (c // 2, c // 4)}
        assert len(sizes) == 1, "the evaluation wants equal counts of slots in all nodes"
        return sizes.pop()

    def cosine(self, local: Tensor) -> Tensor:
        """The model's own choice [n]: 0 left, 1 right."""
        s = F.cosine_similarity(self.vectors, self.model.query_vector(local)[None], dim=-1, eps=1e-6)
        left, right = s.chunk(2)
        return (left < right).long()

    def memory(self, choice: Tensor) -> Memory:
        right = choice.bool()[None, :, None, None, None]
        pick = lambda name, i: torch.where(right, self.sides[1][name][i], self.sides[0][name][i]).flatten(1, 3)[None]
        return self.of([pick("keys", i) for i in range(self.model.tree.layers)],
                       [pick("values", i) for i in range(self.model.tree.layers)], 3)

    def uniform(self) -> Memory:
        """Both halves coarse: the rejected node of either side."""
        pick = lambda name, i: torch.stack([s[name][i][:, :, 0] for s in self.sides], 2).flatten(1, 3)[None]
        return self.of([pick("keys", i) for i in range(self.model.tree.layers)],
                       [pick("values", i) for i in range(self.model.tree.layers)], 2)

    def of(self, keys: list[Tensor], values: list[Tensor], nodes: int) -> Memory:
        row = torch.arange(self.n).repeat_interleave(nodes * self.per_node)[None]
        return Memory(keys, values, row, torch.tensor([self.n + 1]))


@torch.no_grad()
def lookups(model: SharedLlama, tokenizer: Tokenizer, valid: dict[str, np.ndarray], n: int, documents: int, facts: int,
            rng: np.random.Generator, canonical: bool = True) -> dict[str, float]:
    """Share of questions whose first greedy token is the planted value. Chance is below 1 %."""
    look, size = Lookups(tokenizer, rng), model.tree.chunk_size
    texts = data.Slices(valid, rng)
    hits: dict[str, list[bool]] = {way: [] for way in WAYS}
    opened: list[bool] = []
    for _ in range(documents):
        count = min(facts, 2 * n)
        keys, values = look.pairs(count)
        parts = [look.fact(k, v, canonical) for k, v in zip(keys, values)]
        halves = rng.choice(2 * n, count, replace=False)  # every fact in its own half, not across its middle
        per = size // 2
        ids = np.concatenate([texts.take(size) for _ in range(n)])
        for part, half in zip(parts, halves):
            quarter = per // 2 * int(rng.integers(2))
            at = half * per + quarter + int(rng.integers(0, per // 2 - len(part) + 1))
            ids[at : at + len(part)] = part
        both = Both(model, torch.from_numpy(ids).view(n, size))
        uniform = both.uniform()
        for key, value, half in zip(keys, values, halves):
            local = torch.tensor([BEGIN, *look.question(key, canonical)])
            own = both.cosine(local)
            truth = torch.from_numpy(rng.integers(0, 2, n))
            chunk, side = int(half) // 2, int(half) % 2
            opened.append(bool(own[chunk] == side))
            oracle, closed = truth.clone(), truth.clone()
            oracle[chunk], closed[chunk] = side, 1 - side
            for way, choice in zip(WAYS, (own, truth, oracle, closed, None)):
                memory = uniform if choice is None else both.memory(choice)
                hits[way].append(int(model(local[None], memory)[0, -1].argmax()) == int(value))
    return {**{way: float(np.mean(h)) for way, h in hits.items()}, "cosine_opens": float(np.mean(opened)),
            "trials": len(opened)}


@torch.no_grad()
def text(model: SharedLlama, valid: dict[str, np.ndarray], n: int, documents: int, rng: np.random.Generator,
         local: int = 256) -> dict[str, float]:
    """Cross-entropy of the last half of the local text, and its change by the memory (random path)."""
    size, texts = model.tree.chunk_size, data.Slices(valid, rng)
    plain, change = [], []
    for _ in range(documents):
        ids = torch.from_numpy(texts.take(n * size + local))
        own = torch.cat([torch.tensor([BEGIN]), ids[n * size :]])[None]
        memory = model.read_batch(ids[: n * size].view(1, n, size), torch.from_numpy(rng.integers(0, 2, (1, 1, n))),
                                  torch.arange(n)[None], torch.tensor([n]))
        losses = [F.cross_entropy(model(own, m)[0, local // 2 : -1], own[0, local // 2 + 1 :]).item()
                  for m in (None, memory)]
        plain.append(losses[0])
        change.append(losses[1] - losses[0])
    return {"loss": float(np.mean(plain)), "change": float(np.mean(change)),
            "standard_error": float(np.std(change) / max(1, len(change) - 1) ** 0.5)}


@torch.no_grad()
def in_window(model: SharedLlama, tokenizer: Tokenizer, valid: dict[str, np.ndarray], rng: np.random.Generator,
              trials: int = 100) -> float:
    """One fact in the local text itself, one question, no memory."""
    look, texts, hits = Lookups(tokenizer, rng), data.Slices(valid, rng), []
    for _ in range(trials):
        (key,), (value,) = look.pairs(1)
        ids, _ = look.insert(texts.take(450), [look.fact(key, value, True)], 0, 440)
        local = torch.tensor([BEGIN, *ids, *look.question(key, True)])
        hits.append(int(model(local[None])[0, -1].argmax()) == int(value))
    return float(np.mean(hits))


def main(args) -> None:
    torch.set_num_threads(args.threads)
    base, adapter = Path(args.base), Path(args.output)
    tokenizer = Tokenizer.load(base / "tokenizer.json")
    model = export.load(base, adapter)
    _, valid = data.load(tokenizer, Path(args.data), Path(args.work) / "tokens")
    rng = np.random.default_rng(args.seed)
    print(f"in the window, no memory: {in_window(model, tokenizer, valid, rng):.2f}", flush=True)
    for n in map(int, args.chunks.split(",")):
        for name, canonical in (("plain", True), ("mixed", False)):
            row = lookups(model, tokenizer, valid, n, max(2, args.documents // (1 + n // 64)), args.facts, rng, canonical)
            print(f"chunks={n} forms={name} " + " ".join(f"{k}={v:.2f}" if isinstance(v, float) else f"{k}={v}"
                                                         for k, v in row.items()), flush=True)
        if n <= 64:
            row = text(model, valid, n, 4 * args.documents, rng)
            print(f"chunks={n} text " + " ".join(f"{k}={v:+.3f}" for k, v in row.items()), flush=True)
