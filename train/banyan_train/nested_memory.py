"""`nested`: a chunk is encoded once, its fine groups make the slots of all nodes (see `nested` for the arithmetic).

Shapes: n chunks, C tokens of a chunk, F fine groups, g kv heads, d head size.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import nested
from .llama import rotate
from .nested import Chunk, Selected, Span
from .memory import Memory
from .sharedllm import SharedLlama, group_mean


def fine(model: SharedLlama, k: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Unrotated keys and values of tokens [N,g,C,d] -> of fine groups [N,g,F,d]."""
    if model.tree.slot_kind == "mean":
        return group_mean(k, step), group_mean(v, step)
    return k[:, :, ::step], v[:, :, ::step]


class Encoded:
    """Everything a question needs to know of one chunk, from one pass."""

    def __init__(self, model: SharedLlama, chunk: Chunk, ids: Tensor):
        self.model, self.chunk = model, chunk
        raw = model.encode(ids[None])
        t = model.tree
        self.slots = [tuple(x[0] for x in fine(model, k, v, chunk.step)) for k, v in raw]
        if t.do_retrieval and t.selection == "cosine":
            self.states = model.states_after_first(ids[None])[0]
        if t.do_retrieval and t.selection == "token_keys":
            self.token_keys = raw[t.selection_layer][0][0]  # [g,n,d]

    def node(self, s: Selected) -> list[tuple[Tensor, Tensor]]:
        """Per layer keys turned in the chunk and values [g,slots,d] of a node."""
        out, groups = [], s.slots
        offsets = torch.tensor([first * self.chunk.step for first, _ in groups])
        for k, v in self.slots:
            if self.model.tree.slot_kind == "mean":
                k, v = (torch.stack([x[:, a:b].mean(1) for a, b in groups], 1) for x in (k, v))
            else:
                k, v = (x[:, [a for a, _ in groups]] for x in (k, v))
            out.append((rotate(k, *self.model.turn_in_chunk(offsets, k.dtype)), v))
        return out


def score_of(model: SharedLlama, chunks: list[Encoded], local: Tensor, query: Tensor, query_length: int | None,
             size: int) -> nested.Score | None:
    """The selection rule as a function of a span."""
    t = model.tree
    if not t.do_retrieval:
        return None
    if t.selection == "cosine":
        def cosine(chunk: Chunk, span: Span) -> float | None:
            if span.level == 0:
                return None  # the rule compares halves only
            state = chunks[chunk.number].states[chunk.end(span) - 1]
            return F.cosine_similarity(state, query, dim=-1, eps=1e-6).item()
        return cosine
    scores = model.scores_of_tokens([c.token_keys for c in chunks], local, query_length, size)

    def best_token(chunk: Chunk, span: Span) -> float:
        return scores[chunk.start + span.first * chunk.step : chunk.start + chunk.end(span)].max().item()
    return best_token


@torch.no_grad()
def read(model: SharedLlama, document: Tensor, local: Tensor, chunk_size: int, query_length: int | None = None,
         choose: nested.Choose | None = None) -> Memory | None:
    """document [T], local [L] -> memory; None where the budget lets nothing in. `choose` replaces the choice at a
    pair of halves."""
    t = model.tree
    chunks = nested.cut(len(document), chunk_size, t.depth, t.p)
    encoded = [Encoded(model, c, document[c.start : c.start + c.length]) for c in chunks]
    query = model.query_vector(local, query_length)
    score = score_of(model, encoded, local, query, query_length, chunk_size)
    if t.slot_budget and t.budget_unit == "group":
        rows = nested.best_groups(chunks, score, t.slot_budget)
    else:
        rows = [nested.walk(c, score, choose) for c in chunks]
        if t.slot_budget:
            kept = nested.within_budget([sum(len(s.slots) for s in row) for row in rows],
                                        [nested.rank(s.score for s in row) for row in rows], t.slot_budget)
            rows = [row if i in kept else [] for i, row in enumerate(rows)]
    nodes = [s for row in rows for s in row]
    if not nodes:
        return None
    parts = [encoded[s.chunk.number].node(s) for s in nodes]
    keys = [torch.cat([p[i][0] for p in parts], 1)[None] for i in range(t.layers)]
    values = [torch.cat([p[i][1] for p in parts], 1)[None] for i in range(t.layers)]
    memory = Memory(keys, values, torch.tensor([[s.chunk.number for s in nodes for _ in s.slots]]),
                    torch.tensor([len(chunks) + 1]), [s.chunk.start + f * s.chunk.step for s in nodes for f, _ in s.slots],
                    nested.levels_of(rows), query_vector=query, size=chunk_size)
    memory.selected = rows
    return memory
