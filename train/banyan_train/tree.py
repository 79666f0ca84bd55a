"""The tree of a chunk as pure index arithmetic: how many tokens a node keeps, which spans are nodes.

Section numbers mean the specification of the released code; `paper` differs from it where the text says so.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

LEFT, RIGHT = 0, 1


def parse_last_p(text: str) -> int | float:
    """The first entry of a comma list; an integer or a float (section 2)."""
    first = str(text).strip().strip("\"'()[] ").split(",")[0].strip()
    try:
        return int(first)
    except ValueError:
        return float(first)


def kept(length: int, last_p: int | float) -> int:
    """How many tokens a node of `length` tokens is asked to keep (section 6, clamped as in `paper`)."""
    if isinstance(last_p, float):
        return max(1, int(length * last_p))
    return min(last_p, length) if last_p > 0 else length


def step_of(length: int, last_p: int | float) -> int:
    return length // kept(length, last_p)


@dataclass(frozen=True)
class Node:
    """Tokens [start, end) of chunk number `chunk`, counted from the beginning of the document."""

    chunk: int
    level: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def offsets(self, last_p: int | float) -> range:
        return range(0, len(self), step_of(len(self), last_p))


def effective_depth(length: int, depth: int) -> int:
    """min(depth, floor(log2 length)); a chunk of one token has depth 0."""
    return min(depth, length.bit_length() - 1)


def halves(node: Node, level: int) -> tuple[Node, Node]:
    """left has floor(len/2) tokens, right has the rest."""
    middle = node.start + len(node) // 2
    return Node(node.chunk, level, node.start, middle), Node(node.chunk, level, middle, node.end)


def chunks_of(length: int, chunk_size: int) -> list[Node]:
    return [Node(c, -1, start, min(start + chunk_size, length))
            for c, start in enumerate(range(0, length, chunk_size))]


Choose = Callable[[int, list[tuple[Node, Node]]], list[int]]


@dataclass
class Level:
    """What happened at one level: the pairs that were compared, the choices, the encoded nodes."""

    level: int
    pairs: list[tuple[Node, Node]]
    chosen: list[int]
    nodes: list[Node]


def grow_paper(chunks: list[Node], depth: int, choose: Choose) -> list[Level]:
    """`paper`: every chunk by itself, nothing dropped, short chunks with a smaller depth.

    At its last level a chunk's both halves are nodes; a chunk of one token is a node itself, at level 0.
    """
    active = {c.chunk: c for c in chunks}
    last = {c.chunk: effective_depth(len(c), depth) - 1 for c in chunks}
    levels = []
    for level in range(depth):
        step = Level(level, [], [], [])
        leaves: list[Node] = []
        for number, node in active.items():
            if last[number] == -1 and level == 0:
                leaves.append(Node(number, 0, node.start, node.end))
            elif last[number] == level:
                leaves += halves(node, level)
            elif last[number] > level:
                step.pairs.append(halves(node, level))
        if step.pairs:
            step.chosen = choose(level, step.pairs)
        for pair, choice in zip(step.pairs, step.chosen):
            active[pair[0].chunk] = pair[choice]
            step.nodes.append(pair[1 - choice])
        step.nodes = sorted(step.nodes + leaves, key=lambda n: n.start)
        levels.append(step)
    return levels


def grow_released(chunks: list[Node], depth: int, choose: Choose) -> list[Level]:
    """Section 7: equal chunks, the last token of an odd leaf parent is dropped."""
    spans, levels = list(chunks), []
    for level in range(depth - 1):
        pairs = [halves(span, level) for span in spans]
        chosen = choose(level, pairs)
        levels.append(Level(level, pairs, chosen, [p[1 - c] for p, c in zip(pairs, chosen)]))
        spans = [p[c] for p, c in zip(pairs, chosen)]
    spans = [Node(s.chunk, s.level, s.start, s.end - len(s) % 2) for s in spans]
    levels.append(Level(depth - 1, [], [], [half for s in spans for half in halves(s, depth - 1)]))
    return levels


def order_released(levels: list[Level]) -> list[list[Node]]:
    """Rows of section 7, with the leaves in foreign rows: leaf[r], leaf[r + n], then coarser nodes."""
    leaves = levels[-1].nodes
    if len(levels) == 1:
        return [[leaf] for leaf in leaves]
    n = len(leaves) // 2
    return [[leaves[r], leaves[r + n], *(level.nodes[r] for level in reversed(levels[:-1]))] for r in range(n)]


def order_paper(levels: list[Level], chunks: int) -> list[list[Node]]:
    """One row a chunk, nodes in the order of the document."""
    rows: list[list[Node]] = [[] for _ in range(chunks)]
    for node in sorted((n for level in levels for n in level.nodes), key=lambda n: n.start):
        rows[node.chunk].append(node)
    return rows
