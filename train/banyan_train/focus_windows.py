"""Many local windows over one pool of chunks, in packed batches: what training and measuring run.

The raw KV of a chunk depends on the chunk's tokens alone. So a chunk is read once, whatever number of windows ask it,
and a document is any list of chunks of the pool. The numbers are those of `focusllm.stateless`.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .focusllm import FocusLlama, Past, padded, with_bos


@torch.no_grad()
def read_chunks(model: FocusLlama, chunks: list[np.ndarray]) -> Past:
    """The raw KV of chunks [P,g,longest,d], short ones padded; read in pieces, to save memory."""
    ids, lengths = padded(chunks, next(model.parameters()).device)
    parts = [model.run(i, lengths=n, states=False)[1] for i, n in zip(ids.split(64), lengths.split(64))]
    return parts[0] if len(parts) == 1 else joined(parts)


def joined(parts: list[Past]) -> Past:
    """Rows under rows."""
    layers = lambda lists: [torch.cat(layer) for layer in zip(*lists)]
    return Past(layers(p.keys for p in parts), layers(p.values for p in parts), torch.cat([p.positions for p in parts]))


class Ring:
    """The raw KV of the latest `capacity` chunks of one size, and the facts {key: value} that each of them holds."""

    def __init__(self, capacity: int):
        self.capacity, self.next = capacity, 0
        self.facts: list[dict[int, int]] = []
        self.past: Past | None = None

    def add(self, past: Past, facts: list[dict[int, int]]) -> list[int]:
        """Overwrites the oldest; returns the places of the new ones."""
        if self.past is None:
            room = lambda x: x.new_zeros(self.capacity, *x.shape[1:])
            self.past = Past([room(k) for k in past.keys], [room(v) for v in past.values], room(past.positions))
        places = []
        for fact in facts:
            if len(self.facts) < self.capacity:
                self.facts.append(fact)
            else:
                self.facts[self.next] = fact
            places.append(self.next)
            self.next = (self.next + 1) % self.capacity
        for have, new in zip([*self.past.keys, *self.past.values, self.past.positions],
                             [*past.keys, *past.values, past.positions]):
            have[places] = new
        return places

    def without(self, key: int) -> np.ndarray:
        """Places of the chunks that say nothing about the key."""
        return np.array([i for i, facts in enumerate(self.facts) if key not in facts])


def scatter(candidates: Past, window: Tensor, place: Tensor, shape: tuple[int, int]) -> Past:
    """[R,g,1,d], each a candidate of one window at one place -> the pasts of N windows [N,g,m,d], padded."""

    def spread(x: Tensor) -> Tensor:
        out = x.new_zeros(*shape, x.shape[1], x.shape[3])
        return out.index_put((window, place), x[:, :, 0]).transpose(1, 2)

    positions = torch.full(shape, -1, device=window.device)
    positions[window, place] = place
    return Past([spread(k) for k in candidates.keys], [spread(v) for v in candidates.values], positions)


@dataclass
class Asked:
    """Chunks with the query behind each of them, up to its last token: R passes of N windows, ready for candidates."""

    raw: Past  # [R,g,p,d]
    last: Tensor  # [R], the candidates' tokens
    window: Tensor  # [R]
    place: Tensor  # [R], in the window's document
    shape: tuple[int, int]  # N, and chunks of the longest document


@torch.no_grad()
def ask(model: FocusLlama, pool: Past, documents: list[list[int]], queries: list[list[int]]) -> Asked:
    """`documents[n]` are the pool's chunks that window n stands behind, in order; `queries[n]` its query, BOS included.

    Only the base reads here: nothing in it can be trained, and it is the same for all candidate projections.
    """
    device = pool.positions.device
    window = torch.tensor([n for n, d in enumerate(documents) for _ in d], device=device)
    place = torch.tensor([i for d in documents for i in range(len(d))], device=device)
    raw = pool.rows(torch.tensor([c for d in documents for c in d], device=device))
    ids, lengths = padded(queries, device)
    last = ids[torch.arange(len(ids), device=device), lengths - 1]
    raw = raw + model.run(ids[window, :-1], raw, lengths=lengths[window] - 1, states=False)[1]
    return Asked(raw, last[window], window, place, (len(documents), max(map(len, documents))))


def gather(model: FocusLlama, asked: Asked) -> Past:
    """The candidates of N windows as their pasts [N,g,m,d]."""
    return scatter(model.candidates(asked.raw, asked.last), asked.window, asked.place, asked.shape)


def last_logits(model: FocusLlama, past: Past | None, windows: list[list[int]]) -> Tensor:
    """Logits [N,vocab] at the end of each local text (BOS included) behind its past."""
    ids, lengths = padded(windows, next(model.parameters()).device)
    states = model.run(ids, past, lengths=lengths)[0]
    return model.logits(states[torch.arange(len(ids), device=ids.device), lengths - 1])


def queries_of(texts: list[list[int]], longest: int, bos: int | None) -> list[list[int]]:
    """bos+(the last `longest` tokens at most) of every local text (without BOS)."""
    return [with_bos(list(t[-longest:]), bos) for t in texts]


def score(model: FocusLlama, pool: Past, documents: list[list[int]], texts: list[list[int]], query: int,
          bos: int | None) -> Tensor:
    """Logits [N,vocab] behind the local `texts` (without BOS), whose queries have `query` tokens at most."""
    asked = ask(model, pool, documents, queries_of(texts, query, bos))
    return last_logits(model, gather(model, asked), [with_bos(list(t), bos) for t in texts])
