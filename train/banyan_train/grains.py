"""The slots of all nodes of many equal chunks, so that any choice of paths is only a matter of picking.

Training with `nested` and all measuring use it. Shapes: B rows, n chunks, C tokens of a chunk, N = B n, g kv heads,
d head size, S slots.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import nested
from .llama import rotate
from .memory import Memory
from .sharedllm import SharedLlama, group_mean

PIECE = 128  # chunks that are encoded at a time when nothing is trained


def pooled(model: SharedLlama, x: Tensor, groups: int) -> Tensor:
    """Unrotated keys or values [N,g,F,d] -> one slot for `groups` neighbours: their mean, or the first (`strided`)."""
    if groups == 1:
        return x
    return group_mean(x, groups) if model.tree.slot_kind == "mean" else x[:, :, ::groups]


class Grains:
    """`levels[l - 1]`: per layer keys (turned in the chunk or node) and values [N,g,2^l slots,d] of all nodes at level l."""

    def __init__(self, model: SharedLlama, ids: Tensor, depth: int):
        """ids [N,C]; C, and for `nested` its fine groups too, must halve evenly `depth` times."""
        self.model, self.ids, self.depth = model, ids, depth
        pieces = [ids] if torch.is_grad_enabled() else ids.split(PIECE)
        parts = [model.encode(piece) for piece in pieces]
        self.raw = [tuple(torch.cat([p[i][j] for p in parts]) for j in (0, 1)) for i in range(model.tree.layers)]
        build = self.nested if model.tree.semantics == "nested" else self.paper
        self.levels = [build(level) for level in range(1, depth + 1)]

    def nested(self, level: int) -> list[tuple[Tensor, Tensor]]:
        size = self.ids.shape[1]
        (chunk,) = nested.cut(size, size, self.depth, self.model.tree.p)
        if chunk.groups % 2**self.depth or chunk.groups * chunk.step != size:
            raise ValueError(f"the {chunk.groups} groups of a chunk of {size} tokens do not halve evenly {self.depth} times")
        if level == self.depth:
            self.step = chunk.step
        return self.grouped(chunk.step, 2 ** (self.depth - level))

    def grouped(self, step: int, groups: int) -> list[tuple[Tensor, Tensor]]:
        """Whole chunks with a slot for `groups` fine groups of `step` tokens."""
        out = []
        for k, v in self.raw:
            k, v = (pooled(self.model, pooled(self.model, x, step), groups) for x in (k, v))
            offsets = torch.arange(k.shape[2], device=k.device) * step * groups
            out.append((rotate(k, *self.model.turn_in_chunk(offsets, k.dtype)), v))
        return out

    def paper(self, level: int) -> list[tuple[Tensor, Tensor]]:
        nodes = self.ids.reshape(len(self.ids) << level, -1)
        pieces = [nodes] if torch.is_grad_enabled() else nodes.split(PIECE << level)
        parts = [[self.model.thin(k, v) for k, v in self.model.encode(piece)] for piece in pieces]
        fold = lambda x: x.unflatten(0, (-1, 1 << level)).transpose(1, 2).flatten(2, 3)
        return [tuple(fold(torch.cat([p[i][j] for p in parts])) for j in (0, 1)) for i in range(self.model.tree.layers)]

    def pick(self, paths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """paths [depth-1,N] (1: right is opened) -> per layer keys and values [N,g,S,d] of what a path leaves."""
        prefix = torch.zeros(len(self.ids), dtype=torch.long, device=self.ids.device)
        nodes = []  # level, number of the node [N]
        for level, bit in enumerate(paths, 1):
            nodes.append((level, 2 * prefix + 1 - bit))
            prefix = 2 * prefix + bit
        nodes += [(self.depth, 2 * prefix), (self.depth, 2 * prefix + 1)]
        out = []
        for i in range(self.model.tree.layers):
            sides = []
            for side in (0, 1):
                parts = []
                for level, number in nodes:
                    x = self.levels[level - 1][i][side]
                    per = x.shape[2] >> level
                    at = number[:, None] * per + torch.arange(per, device=number.device)
                    parts.append(torch.gather(x, 2, at[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])))
                sides.append(torch.cat(parts, 2))
            out.append(tuple(sides))
        return out

    def memory(self, picked: list[tuple[Tensor, Tensor]], index: Tensor, total: Tensor) -> Memory:
        """index [B,n] chunk index of every chunk, total [B] chunks of the (virtual) document."""
        join = lambda x: x.unflatten(0, index.shape).transpose(1, 2).flatten(2, 3)  # [B,g,n*slots,d]
        slots = picked[0][0].shape[2]
        return Memory([join(k) for k, _ in picked], [join(v) for _, v in picked],
                      index[:, :, None].expand(-1, -1, slots).flatten(1), total + 1, size=self.ids.shape[1])

    # ---- choices (one document: N chunks in order) ----

    @property
    def per_chunk(self) -> int:
        """Slots that a path leaves of a chunk."""
        counts = [level[0][0].shape[2] >> i for i, level in enumerate(self.levels, 1)]
        return sum(counts) + counts[-1]

    def uniform(self) -> list[tuple[Tensor, Tensor]]:
        """A control: slots of equal size all over, as many as a path leaves (as nearly as whole groups allow)."""
        return self.grouped(max(1, round(self.ids.shape[1] / self.per_chunk)), 1)

    def unthinned(self) -> list[tuple[Tensor, Tensor]]:
        return self.grouped(1, 1)

    def token_scores(self, local: Tensor) -> Tensor:
        """[N,C] by the token-keys rule."""
        keys = self.raw[self.model.tree.selection_layer][0]
        return self.model.scores_of_tokens(list(keys), local, None, self.ids.shape[1]).view(self.ids.shape)

    def scores(self, local: Tensor) -> list[Tensor]:
        """The adapter's rule for all nodes of the levels where halves are compared: [N,2^level]."""
        model, levels = self.model, range(1, self.depth)
        if model.tree.selection == "token_keys":
            tokens = self.token_scores(local)
            return [tokens.unflatten(1, (1 << level, -1)).max(-1).values for level in levels]
        query, out = model.query_vector(local), []
        if not hasattr(self, "vectors"):
            self.vectors = [self.node_vectors(level) for level in levels]
        for states in self.vectors:
            out.append(F.cosine_similarity(states, query, dim=-1, eps=1e-6))
        return out

    def node_vectors(self, level: int) -> Tensor:
        """[N,2^level,H]"""
        width = self.ids.shape[1] >> level
        if self.model.tree.semantics == "nested":
            return torch.cat([self.model.states_after_first(p)[:, width - 1 :: width] for p in self.ids.split(PIECE)])
        nodes = self.ids.reshape(-1, width)
        return torch.cat([self.model.node_vectors(p) for p in nodes.split(PIECE << level)]).unflatten(0, (-1, 1 << level))

    def own(self, local: Tensor) -> Tensor:
        """The adapter's own paths [depth-1,N]."""
        every = torch.arange(len(self.ids), device=self.ids.device)
        prefix, paths = torch.zeros_like(every), []
        for scores in self.scores(local):
            bit = (scores[every, 2 * prefix] < scores[every, 2 * prefix + 1]).long()
            paths.append(bit)
            prefix = 2 * prefix + bit
        return torch.stack(paths) if paths else every.new_zeros(0, len(every))

    def best_groups(self, local: Tensor, count: int) -> Memory:
        """`nested` with budget_unit group: the fine groups with the best tokens, of all chunks."""
        tokens = self.token_scores(local)
        best = tokens.unflatten(1, (-1, self.step)).max(-1).values.flatten()
        at = best.topk(min(count, len(best))).indices.sort().values
        flat = lambda x: x.transpose(0, 1).flatten(1, 2)[:, at][None]
        fine = self.levels[-1]
        return Memory([flat(k) for k, _ in fine], [flat(v) for _, v in fine],
                      (at // (self.ids.shape[1] // self.step))[None], torch.tensor([len(self.ids) + 1], device=at.device),
                      size=self.ids.shape[1])
