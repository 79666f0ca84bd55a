"""The authors' training sample (section 7): which tokens are chunks, window and target."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .focusllm import Cut, FocusLlama, padded, prefix, with_bos

OBJECTIVES = ("continuation", "repetition")
SHORTEST = 30  # tokens of a window


class Draws(Protocol):
    """Python's `random` or anything that draws like it."""

    def randint(self, first: int, last: int) -> int: ...
    def choice(self, options: Sequence): ...


@dataclass(frozen=True)
class Sample:
    """The local window tokens[start : start+size], its target behind it, and chunks over tokens[: covered]."""

    start: int
    size: int
    chunk: int
    covered: int

    @property
    def target(self) -> int:
        return self.start + self.size

    def query(self, cap: int = 512) -> int:
        return min(cap, self.chunk, self.size)

    def chunks(self) -> list[tuple[int, int]]:
        return [(i, min(i + self.chunk, self.covered)) for i in range(0, self.covered, self.chunk)]

    def cut(self, tokens: list[int], bos: int | None, cap: int = 512) -> Cut:
        local = tokens[self.start : self.target]
        return Cut([tokens[a:b] for a, b in self.chunks()], with_bos(local[-self.query(cap) :], bos), with_bos(local, bos))


def draw(objective: str, n: int, grid: int, chunks: Sequence[int], draws: Draws) -> Sample:
    """One sample of a text of n tokens, in the authors' order of draws: size, (block,) offset, chunk size.

    Continuation: the chunks are what stands before the window. Repetition: they are the whole text, the window and its
    target included, so that the answer can be copied from a chunk.
    """
    if n < grid:
        raise ValueError(f"a text of {n} tokens is shorter than the grid of {grid}")
    size = draws.randint(SHORTEST, grid - 2)
    if objective == "repetition":
        block = draws.randint(0, n // grid - 1)
        start = block * grid + draws.randint(0, grid - size - 1)
        covered = n
    else:
        start = covered = (n // grid - 1) * grid + draws.randint(1, grid - size - 1)
    return Sample(start, size, draws.choice(chunks), covered)


def loss(model: FocusLlama, tokens: list[int], sample: Sample, bos: int | None, cap: int = 512) -> Tensor:
    """Cross-entropy of the one target; no other position is scored. The gradient reaches the candidates of all chunks."""
    cut = sample.cut(tokens, bos, cap)
    ids, lengths = padded([[*c, *cut.query[:-1]] for c in cut.chunks])
    with torch.no_grad():  # ordinary tokens of a chunk never see a candidate, and the base is frozen
        raw = model.run(ids, lengths=lengths, states=False)[1]
    past = prefix(model.candidates(raw, torch.full((len(ids),), cut.query[-1])))
    logits = model.logits(model.run(torch.tensor([cut.local]), past)[0][:, -1])
    return F.cross_entropy(logits, torch.tensor([tokens[sample.target]]))
