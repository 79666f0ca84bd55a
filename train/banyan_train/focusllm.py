"""FocusLLM (arXiv 2408.11745): every chunk of a document leaves one key and value a layer, those of its candidate.

A chunk, followed by a copy of the prompt's last tokens (the query), is read by the unchanged base; only the very last
token, the *candidate*, goes through its own q, k, v, o projections (`beacon_*`, as the authors call them). The local
text is then read by the unchanged base behind the candidates of all chunks.

Shapes: B rows, L new and p past tokens, H hidden, g key/value heads, d head size, m chunks of a document.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import LlamaConfig
from .llama import Attention, Llama, attend, recomputed, rotate, rotation

PARTS = "qkvo"


@dataclass
class Past:
    """Per layer keys (before RoPE) and values [B,g,p,d]; positions [B,p], -1 for padding that nobody sees."""

    keys: list[Tensor]
    values: list[Tensor]
    positions: Tensor

    def __add__(self, other: "Past") -> "Past":
        both = lambda a, b: [torch.cat(pair, 2) for pair in zip(a, b)]
        return Past(both(self.keys, other.keys), both(self.values, other.values),
                    torch.cat([self.positions, other.positions], 1))

    def rows(self, index: Tensor) -> "Past":
        return Past([k[index] for k in self.keys], [v[index] for v in self.values], self.positions[index])

    def counts(self) -> Tensor:
        """[B]: how many of the p tokens are no padding."""
        return (self.positions >= 0).sum(1)


class FocusAttention(Attention):
    """The plain projections and those of the candidate; a part that has no own one falls back to the plain one."""

    def __init__(self, c: LlamaConfig, beacon: str = PARTS, biases: str = ""):
        super().__init__(c)
        self.beacon = beacon
        for part in PARTS:
            plain = getattr(self, f"{part}_proj")
            like = lambda: nn.Linear(plain.in_features, plain.out_features, bias=part in biases)
            setattr(self, f"{part}_proj", like())
            if part in beacon:
                setattr(self, f"beacon_{part}_proj", like())

    def projection(self, part: str, candidate: bool) -> nn.Linear:
        return getattr(self, f"beacon_{part}_proj" if candidate and part in self.beacon else f"{part}_proj")


class FocusLlama(Llama):
    """A Llama with candidate projections in every layer; `biases` names the parts that have one ("qkv": Qwen2)."""

    def __init__(self, c: LlamaConfig, beacon: str = PARTS, biases: str = ""):
        super().__init__(c)
        self.beacon = beacon
        for block in self.model.layers:
            block.self_attn = FocusAttention(c, beacon, biases)

    def run(self, ids: Tensor, past: Past | None = None, *, candidate: bool = False, lengths: Tensor | None = None,
            states: bool = True) -> tuple[Tensor | None, Past]:
        """The one primitive (section 3): ids [B,L] -> states [B,L,H] before the final norm, and their own KV.

        All tokens of a call are ordinary, or all are candidates; a candidate is last and nobody sees it, so it has its
        own call. Positions count the past's tokens, wherever in the document they stand. `lengths` [B]: the rest of
        a row is padding. Without `states` the last layer stops at its keys and values, all that a chunk is read for.
        """
        old = ids.new_zeros(len(ids), 0) if past is None else past.positions
        count = torch.arange(ids.shape[1], device=ids.device)[None]
        own = (old >= 0).sum(1, keepdim=True) + count
        own = own if lengths is None else own.masked_fill(count >= lengths[:, None], -1)
        every = torch.cat([old, own], 1)
        visible = (every[:, None] >= 0) & (every[:, None] <= own[:, :, None])
        x = self.model.embed_tokens(ids)
        table = rotation(self.config, torch.arange(int(every.max()) + 1, device=ids.device), x.dtype)
        turn = [t[every.clamp(min=0)][:, None] for t in table]  # of past and new keys [B,1,p+L,d]
        new = Past([], [], own)
        for i, block in enumerate(self.model.layers):
            attention, h = block.self_attn, block.input_layernorm(x)
            project = lambda part, y: attention.projection(part, candidate)(y)
            k, v = attention.keys(project("k", h)), attention.split(project("v", h))
            new.keys.append(k)
            new.values.append(v)
            if not states and i == len(self.model.layers) - 1:
                return None, new
            if past is not None:
                k, v = torch.cat([past.keys[i], k], 2), torch.cat([past.values[i], v], 2)
            places = [t[:, :, old.shape[1] :] for t in turn]  # of the queries
            x = recomputed(self.rest, i, x, h, k, v, turn, places, visible, candidate, on=self.checkpointing)
        return x, new

    def rest(self, i: int, x: Tensor, h: Tensor, k: Tensor, v: Tensor, turn: list[Tensor], places: list[Tensor], visible: Tensor,
             candidate: bool) -> Tensor:
        """Layer i once its keys (not rotated) and values are known: x [B,L,H] behind it; h is the normed x."""
        block = self.model.layers[i]
        attention = block.self_attn
        q = rotate(attention.queries(attention.projection("q", candidate)(h)), *places)
        x = x + attention.projection("o", candidate)(attend(q, rotate(k, *turn), v, False, visible))
        return x + block.mlp(block.post_attention_layernorm(x))

    def candidates(self, raw: Past, last: Tensor) -> Past:
        """The KV of one candidate a chunk, [m,g,1,d]; `last` [m] are their tokens."""
        return self.run(last[:, None], raw, candidate=True, states=False)[1]


def prefix(candidates: Past) -> Past:
    """[m,g,1,d], in the order of the chunks -> the past of the local text [1,g,m,d], at positions 0 .. m-1."""
    m = len(candidates.positions)
    turned = lambda xs: [x[:, :, 0].transpose(0, 1)[None] for x in xs]
    return Past(turned(candidates.keys), turned(candidates.values),
                torch.arange(m, device=candidates.positions.device)[None])


def padded(rows: list[list[int]], device="cpu") -> tuple[Tensor, Tensor]:
    """ids [B,longest], padded at the right, and the lengths [B]."""
    lengths = torch.tensor([len(r) for r in rows], device=device)
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.as_tensor(row, device=device)
    return ids, lengths


def with_bos(ids: list[int], bos: int | None) -> list[int]:
    """bos+(u): nothing is added where the slice happens to begin with it, or the model has none."""
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


@dataclass(frozen=True)
class Cut:
    """A prompt as chunks, query and local text."""

    chunks: list[list[int]]
    query: list[int]
    local: list[int]


@dataclass(frozen=True)
class Cutter:
    """Section 4.1. window W, stride s, threshold T: a shorter prompt is not cut."""

    window: int
    stride: int
    threshold: int = 4096
    cap: int = 512
    bos: int | None = 1

    def cut(self, prompt: list[int]) -> Cut:
        n = len(prompt)
        if n < max(self.threshold, self.window):
            return Cut([], [], with_bos(prompt, self.bos))
        query = min(self.cap, self.stride, self.window)
        end = n - self.window
        chunks = [prompt[i : min(i + self.stride, end)] for i in range(0, end, self.stride)]
        return Cut(chunks, with_bos(prompt[n - query :], self.bos), with_bos(prompt[end:], self.bos))


class Session:
    """Sections 4.1 and 4.2, incremental: the raw KV of every chunk is kept, the candidates are made anew each step."""

    def __init__(self, model: FocusLlama, cut: Cut):
        self.model, self.local = model, list(cut.local)
        self.raw: Past | None = None
        self.latest: Past | None = None  # the candidates [m,g,1,d] of the last step
        self.previous = cut.local[-1]
        if cut.chunks:
            ids, lengths = padded([[*c, *cut.query[:-1]] for c in cut.chunks])
            self.raw = model.run(ids, lengths=lengths, states=False)[1]
        self.logits = self._read()  # [local length, vocab]

    def _read(self) -> Tensor:
        if self.raw is not None:
            self.latest = self.model.candidates(self.raw, torch.full((len(self.raw.positions),), self.previous))
        past = None if self.latest is None else prefix(self.latest)
        return self.model.logits(self.model.run(torch.tensor([self.local]), past)[0])[0]

    def feed(self, token: int) -> Tensor:
        """Takes the chosen token; logits [vocab] of the next one. Yesterday's candidate is read again, as ordinary."""
        if self.raw is not None:
            ids = torch.full((len(self.raw.positions), 1), self.previous)
            self.raw = self.raw + self.model.run(ids, self.raw, states=False)[1]
        self.previous = token
        self.local.append(token)
        self.logits = self._read()
        return self.logits[-1]


def stateless(model: FocusLlama, cut: Cut, generated: list[int]) -> Tensor:
    """Section 4.2's definition without state: logits [vocab] after `generated`, everything from token ids."""
    past = None
    if cut.chunks:
        rows = [[*c, *cut.query, *generated] for c in cut.chunks]
        ids, lengths = padded([r[:-1] for r in rows])
        raw = model.run(ids, lengths=lengths)[1]
        past = prefix(model.candidates(raw, torch.tensor([r[-1] for r in rows])))
    return model.logits(model.run(torch.tensor([[*cut.local, *generated]]), past)[0])[0, -1]


def greedy(model: FocusLlama, cut: Cut, count: int) -> tuple[list[int], Tensor]:
    """The `count` greedy tokens and the logits [count,vocab] they were taken from."""
    session = Session(model, cut)
    rows, tokens = [session.logits[-1]], []
    while True:
        tokens.append(int(rows[-1].argmax()))
        if len(tokens) == count:
            return tokens, torch.stack(rows)
        rows.append(session.feed(tokens[-1]))


def perplexity(model: FocusLlama, cutter: Cutter, tokens: list[int], reserved: int = 128) -> tuple[Tensor, Tensor]:
    """Section 6: negative log-likelihoods [reserved] of the last tokens, fed one by one, and the logits."""
    targets = tokens[-reserved:]
    session = Session(model, cutter.cut(tokens[:-reserved]))
    rows = [session.logits[-1]]
    for token in targets[:-1]:
        rows.append(session.feed(token))
    logits = torch.stack(rows)
    return F.cross_entropy(logits, torch.tensor(targets), reduction="none"), logits


def build(keys: dict, state: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> FocusLlama:
    """The model of a checkpoint: `keys` of its config.json, `state` its tensors."""
    return of_config(LlamaConfig.of(keys), "".join(keys.get("beacon_param", PARTS)), state, dtype)


def of_config(config: LlamaConfig, beacon: str, state: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> FocusLlama:
    """Candidate projections that are missing start as copies of the plain ones, biases too (the authors leave those out).

    The embedding of the candidate is in the authors' files but never read.
    """
    biases = "".join(p for p in PARTS if f"model.layers.0.self_attn.{p}_proj.bias" in state)
    model = FocusLlama(config, beacon, biases).to(dtype)
    state = {k: v.to(dtype) for k, v in state.items() if "beacon_embed_tokens" not in k}
    for name in model.state_dict():
        if "beacon_" in name:
            state.setdefault(name, state.get(name.replace("beacon_", "")))
    model.load_state_dict(state)
    return model


def freeze(model: FocusLlama) -> None:
    """Only what is called `beacon` is trained."""
    for name, p in model.named_parameters():
        p.requires_grad_("beacon" in name)


def from_base(config: LlamaConfig, state: dict[str, Tensor]) -> FocusLlama:
    """A base with candidate projections that are copies of the plain ones."""
    model = of_config(config, PARTS, state)
    freeze(model)
    return model
