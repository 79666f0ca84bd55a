"""Documents for adapters: chunks with planted facts and a local text that asks for them, or plain text.

Half of a batch are look-ups. Paths open the span that holds an asked fact in some of the chunks and are random in the
others, so that slots of every grain become readable.
"""
from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from . import data
from .memory import Memory
from .synthetic import Item, Lookups


class Documents:
    """Draws documents of n chunks of `size` tokens with `local` tokens of local text.

    A document is a dict of arrays: chunks [n,size], local [L], and per local token `weight`, `answers` (bool), `where`
    (chunk of the fact; -1: in the local text itself) and `offset` (of the fact's answer in that chunk).
    """

    def __init__(self, texts: data.Slices, lookups: Lookups, rng: np.random.Generator, local: int):
        self.texts, self.lookups, self.rng, self.local = texts, lookups, rng, local

    def row(self, chunks: np.ndarray, local: np.ndarray) -> dict:
        zeros = lambda kind: np.zeros(self.local, kind)
        return {"chunks": chunks, "local": local, "weight": np.ones(self.local, np.float32), "answers": zeros(bool),
                "where": zeros(np.int64), "offset": zeros(np.int64)}

    def plain(self, n: int, size: int) -> dict:
        ids = self.texts.take(n * size + self.local)
        return self.row(ids[: n * size].reshape(n, size), ids[n * size :])

    def lookup(self, n: int, size: int) -> dict:
        """Facts in the chunks (a few also in the local text) and as many questions as fit."""
        rng, look = self.rng, self.lookups
        most = max(1, min(3, size // 40))
        per_chunk = rng.integers(1 if n < 4 else 0, most + 1, n)
        if per_chunk.sum() == 0:
            per_chunk[rng.integers(n)] = 1
        while per_chunk.sum() > len(look.keys) // 3:  # a vocabulary has only so many keys
            per_chunk[rng.integers(n)] = 0
        here = int(rng.integers(1, 4)) if rng.random() < 0.6 else 0
        items = look.items(int(per_chunk.sum()) + here, self.texts.take)
        rng.shuffle(items)
        chunks, places, left = [], [], list(items)
        source = self.texts.take(n * size + self.local)
        for c, count in enumerate(per_chunk):
            own, room = [], size
            while left and len(own) < count and len(left[-1].fact) <= room:
                own.append(left.pop())
                room -= len(own[-1].fact)
            ids, begins = look.insert(source[c * size : c * size + room], [i.fact for i in own], 0, room)
            places += [(item, c, b + item.place) for b, item in zip(begins, own)]
            chunks.append(ids)
        own = left[:here]
        places += [(item, -1, 0) for item in own]
        return self.ask(self.row(np.stack(chunks), source[n * size :]), places, own)

    def ask(self, row: dict, places: list[tuple[Item, int, int]], here: list[Item]) -> dict:
        """Puts facts of the local text at its beginning and questions behind them."""
        rng, ending = self.rng, self.lookups.endings[0]
        head = [t for item in here for t in item.fact]
        if len(head) > self.local // 2:
            head, places = [], [p for p in places if p[1] >= 0]
        parts, asked, length = [], [], len(head)
        for i in rng.permutation(len(places)):
            item = places[i][0]
            part = [*item.question, *item.answer, *ending]
            if length + len(part) > self.local - 4:
                break
            parts.append(part)
            asked.append(places[i])
            length += len(part)
        text = row["local"][: self.local - length]
        at_once = rng.random() < 0.4
        body, begins = self.lookups.insert(text, parts, 0, 0 if at_once else len(text))
        row["local"] = np.concatenate([np.asarray(head, dtype=np.int64), body])
        for (item, chunk, offset), begin in zip(asked, begins):
            at = len(head) + begin + len(item.question)
            answer = slice(at, at + len(item.answer))
            row["weight"][answer], row["weight"][at - 2], row["answers"][answer] = 5.0 / len(item.answer) ** 0.5, 0.0, True
            row["where"][answer], row["offset"][answer] = chunk, offset
        return row


def batch_of(rows: list[dict], device: str, begin: int | None) -> dict[str, Tensor]:
    """Stacked arrays; `ids` [B,L+1] is the local text behind the begin token."""
    out = {name: torch.from_numpy(np.stack([r[name] for r in rows])).to(device) for name in rows[0]}
    first = torch.full((len(rows), 1), begin or 0, device=device)
    pad = lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], 1)
    out["ids"] = torch.cat([first, out.pop("local").long()], 1)
    return {**out, **{name: pad(out[name]) for name in ("weight", "answers", "where", "offset")}}


def paths_of(rows: list[dict], depth: int, rng: np.random.Generator, share: float) -> np.ndarray:
    """[depth-1,B,n] of 0 or 1. In `share` of the chunks that hold an asked fact the path leads to it."""
    n, size = rows[0]["chunks"].shape
    paths = rng.integers(0, 2, (depth - 1, len(rows), n))
    for b, row in enumerate(rows):
        for at in np.flatnonzero(row["answers"] & (row["where"] >= 0)):
            if rng.random() < share:
                chunk, offset = row["where"][at], row["offset"][at]
                paths[:, b, chunk] = [offset * 2 ** (level + 1) // size % 2 for level in range(depth - 1)]
    return paths


def levels_of(paths: np.ndarray, batch: np.ndarray, where: np.ndarray, offset: np.ndarray, size: int) -> np.ndarray:
    """At which level (1 .. depth, the finest) the span that holds each of A answers was left; 0: in the local text."""
    depth = len(paths) + 1
    out = np.full(len(where), depth)
    for level in reversed(range(depth - 1)):
        out[paths[level, batch, where] != offset * 2 ** (level + 1) // size % 2] = level + 1
    return np.where(where < 0, 0, out)


def indices(rng: np.random.Generator, batch: int, n: int, virtual: int) -> tuple[Tensor, Tensor]:
    """Sorted chunk indices [B,n] out of a virtual document of up to `virtual` chunks, and its number of chunks [B]."""
    index, total = np.zeros((batch, n), np.int64), np.zeros(batch, np.int64)
    for b in range(batch):
        real = rng.random() < 0.3 or n >= virtual
        total[b] = n if real else int(np.exp(rng.uniform(np.log(n), np.log(virtual))))
        index[b] = np.arange(n) if real else np.sort(rng.choice(total[b], n, replace=False))
    return torch.from_numpy(index), torch.from_numpy(total)


class Bank:
    """Slots of earlier text documents, without gradient: more to be told apart at little cost."""

    SLOTS = 2048  # of a part, most: checkpoints hold the bank

    def __init__(self, rng: np.random.Generator, size: int = 24):
        self.rng, self.parts = rng, deque(maxlen=size)

    def state_dict(self) -> dict:
        return {"parts": [[[x.cpu() for x in side] for side in part] for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        self.parts.clear()
        self.parts.extend(state["parts"])

    def add(self, memory: Memory, rows: slice) -> None:
        flat = lambda x: x[rows].detach().transpose(0, 1).flatten(1, 2)[None, :, : self.SLOTS].clone()
        if len(range(*rows.indices(memory.row.shape[0]))):
            self.parts.append([[flat(k) for k in memory.keys], [flat(v) for v in memory.values]])

    def mix(self, memory: Memory, most: int) -> None:
        """Adds up to `most` slots, the same to every row, at chunk indices of the row's own document."""
        wanted = int(np.exp(self.rng.uniform(np.log(most / 20), np.log(most))))
        chosen, total = [], 0
        for part in self.rng.permutation(len(self.parts)):
            if total >= wanted:
                break
            chosen.append(self.parts[part])
            total += chosen[-1][0][0].shape[2]
        if not chosen:
            return
        batch, device = memory.row.shape[0], memory.row.device
        for i in range(len(memory.keys)):
            spread = lambda k: torch.cat([c[k][i].to(device) for c in chosen], 2)[:, :, :wanted].expand(batch, -1, -1, -1)
            memory.keys[i] = torch.cat([memory.keys[i], spread(0)], 2)
            memory.values[i] = torch.cat([memory.values[i], spread(1)], 2)
        extra = memory.keys[0].shape[2] - memory.row.shape[1]
        place = torch.from_numpy(self.rng.random((batch, extra))).to(device) * (memory.query[:, None] - 1)
        memory.row = torch.cat([memory.row, place.long().sort(1).values], 1)
