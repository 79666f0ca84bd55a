"""Index arithmetic of `nested`: fine groups of a chunk, the tree over groups, budgets. No tensors.

The chunk is encoded once. Its fine groups of `step` tokens tile it from its first token; the tree halves groups, and a
node's slot is made of the fine slots of 2^(depth - level) neighbouring groups.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterable

from .tree import LEFT, RIGHT, Level, Node, effective_depth, step_of


@dataclass(frozen=True)
class Span:
    """Groups [first, end) of a chunk: a node at `level` (0: the whole chunk)."""

    level: int
    first: int
    end: int

    def halves(self) -> tuple["Span", "Span"]:
        middle = self.first + (self.end - self.first) // 2
        return Span(self.level + 1, self.first, middle), Span(self.level + 1, middle, self.end)


@dataclass(frozen=True)
class Chunk:
    """Tokens [start, start + length) of the document."""

    number: int
    start: int
    length: int
    depth: int
    step: int  # tokens of a fine group

    @property
    def groups(self) -> int:
        return -(-self.length // self.step)

    @property
    def root(self) -> Span:
        return Span(0, 0, self.groups)

    def end(self, span: Span) -> int:
        """The first token behind the span, counted in the chunk."""
        return min(span.end * self.step, self.length)

    def node(self, span: Span) -> Node:
        """The same as tokens of the document."""
        return Node(self.number, span.level, self.start + span.first * self.step, self.start + self.end(span))


def cut(length: int, chunk_size: int, depth: int, last_p: int | float) -> list[Chunk]:
    out = []
    for number, start in enumerate(range(0, length, chunk_size)):
        n = min(chunk_size, length - start)
        d = effective_depth(n, depth)
        step = step_of(n >> d, last_p)
        groups = -(-n // step)
        out.append(Chunk(number, start, n, min(d, groups.bit_length() - 1), step))
    return out


Score = Callable[[Chunk, Span], float]
Choose = Callable[[Chunk, int, Span, Span], int]


@dataclass(frozen=True)
class Selected:
    """A node that is injected, and what its rule said of it (None: nothing was compared)."""

    chunk: Chunk
    span: Span
    score: float | None = None

    @property
    def slots(self) -> list[tuple[int, int]]:
        """Groups [first, end) of every slot."""
        size = 2 ** (self.chunk.depth - self.span.level)
        return [(f, min(f + size, self.span.end)) for f in range(self.span.first, self.span.end, size)]


def walk(chunk: Chunk, score: Score | None, choose: Choose | None = None) -> list[Selected]:
    """The nodes that one path leaves, in the order of the chunk.

    At every level but the last one half is opened; ties open the left one, and without scores it is the right one.
    `choose` replaces the rule. The leaves carry the score of the span they halve.
    """
    rate = lambda span: score(chunk, span) if score else None
    path, path_score, out = chunk.root, rate(chunk.root), []
    for level in range(chunk.depth - 1):
        halves = path.halves()
        scores = [rate(half) for half in halves]
        if choose:
            choice = choose(chunk, level, *halves)
        else:
            choice = LEFT if score and scores[LEFT] >= scores[RIGHT] else RIGHT
        out.append(Selected(chunk, halves[1 - choice], scores[1 - choice]))
        path, path_score = halves[choice], scores[choice]
    out += [Selected(chunk, leaf, path_score) for leaf in (path.halves() if chunk.depth else (path,))]
    return sorted(out, key=lambda s: s.span.first)


def rank(scores: Iterable[float | None]) -> float:
    """Of a chunk: the best score of its nodes; chunks in which nothing was compared come last."""
    return max((s for s in scores if s is not None), default=float("-inf"))


def within_budget(sizes: list[int], ranks: list[float], budget: float) -> set[int]:
    """Which chunks are injected: whole chunks join by rank (ties: earlier first) until the next one does not fit."""
    left, kept = budget, set()
    for i in sorted(range(len(sizes)), key=lambda i: -ranks[i]):
        if sizes[i] > left:
            break
        left -= sizes[i]
        kept.add(i)
    return kept


def best_groups(chunks: list[Chunk], score: Score, budget: float) -> list[list[Selected]]:
    """No path: the groups with the best scores (ties: earlier first). Neighbours in a chunk are one entry."""
    ranked = [(score(c, Span(c.depth, g, g + 1)), c.number, g) for c in chunks for g in range(c.groups)]
    best = sorted(ranked, key=lambda r: (-r[0], r[1], r[2]))[: int(budget)]
    rows: list[list[Selected]] = [[] for _ in chunks]
    for number, g, value in sorted((number, g, value) for value, number, g in best):
        row, first = rows[number], g
        if row and row[-1].span.end == g:
            before = row.pop()
            first, value = before.span.first, max(before.score, value)
        row.append(Selected(chunks[number], Span(chunks[number].depth, first, g + 1), value))
    return rows


def levels_of(rows: Iterable[list[Selected]]) -> list[Level]:
    """What was injected, told like the other semantics: level l holds the nodes that halve a span of level l."""
    levels: dict[int, Level] = {}
    for row in rows:
        for s in row:
            at = max(0, s.span.level - 1)
            levels.setdefault(at, Level(at, [], [], [])).nodes.append(s.chunk.node(s.span))
    return [levels[at] for at in sorted(levels)]
