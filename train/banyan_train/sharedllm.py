"""SharedLLM: a Llama whose lowest layers also attend to the compressed document (self-injection).

Three semantics: `released` (what the published code computes), `corrected` (the same weights, but siblings are
compared and decoding rotates like prefill) and `paper` (each chunk by itself, chunk index as position).
Two kinds of slots: `strided` and `mean`. Section numbers mean the specification of the released code.

Shapes: B rows, n chunks, S slots in total, L local tokens, g kv heads, h query heads, d head size, H hidden.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import tree
from .config import LlamaConfig
from .llama import Decoder, Llama, RMSNorm, attend, rotate, rotation


@dataclass(frozen=True)
class TreeConfig:
    """How a document is compressed."""

    layers: int  # M, the number of injecting layers
    depth: int = 3
    last_p: str = "64"
    do_retrieval: bool = True
    semantics: str = "paper"
    slot_kind: str = "strided"
    chunk_size: int = 1024

    @property
    def p(self) -> int | float:
        return tree.parse_last_p(self.last_p)


class CrossAttention(nn.Module):
    """Queries of the upper layer against finished keys and values (section 8)."""

    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.head_dim = c.head_dim
        self.layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.q_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)
        self.o_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B,L,H], k and v [B,g,S,d], cos and sin of the query position, broadcast to [B,h,L,d]."""
        q = self.q_proj(self.layernorm(x)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return self.o_proj(attend(rotate(q, cos, sin), k, v, causal=False))


@dataclass
class Memory:
    """All slots of a document: per layer keys (rotated by the position in the node only) and values [B,g,S,d]."""

    keys: list[Tensor]
    values: list[Tensor]
    row: Tensor  # [B,S] or [1,S]: second rotation of the keys
    query: Tensor  # [B] or [1]: position of the cross query
    positions: list[int] = field(default_factory=list)  # document position of every slot (B = 1)
    levels: list[tree.Level] = field(default_factory=list)
    vectors: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # level -> node vectors, similarities
    query_vector: Tensor | None = None

    def rotated(self, layer: int, config: LlamaConfig) -> Tensor:
        cos, sin = rotation(config, self.row, self.keys[layer].dtype)
        return rotate(self.keys[layer], cos[:, None], sin[:, None])


class SharedLlama(Llama):
    """Upper model, cross-attention and (unless shared) an own lower model `encoder`."""

    def __init__(self, c: LlamaConfig, t: TreeConfig, lower: LlamaConfig | None = None, lower_layers: int | None = None):
        super().__init__(c)
        self.tree = t
        for block in self.model.layers[: t.layers]:
            block.cross_attn = CrossAttention(c)
        self.encoder = None if lower is None else Decoder(lower, lower_layers or lower.num_hidden_layers)

    @property
    def lower(self) -> Decoder:
        return self.model if self.encoder is None else self.encoder

    # ---- lower model ----

    def encode(self, ids: Tensor, mask: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Nodes of equal length, ids [N,len] -> per injecting layer the UNROTATED keys and the values [N,g,len,d].

        Every node alone, positions 0.. inside it, causal (section 4). `mask` [N,len] is only for the padded case of
        the released code: where it is false a token neither attends nor is attended (section 10).
        """
        lower = self.lower
        x = lower.embed_tokens(ids)
        cos, sin = lower.positions(ids.shape[1])
        out = []
        for i, block in enumerate(lower.layers[: self.tree.layers]):
            attention, normed = block.self_attn, block.input_layernorm(x)
            out.append(attention.keys_values(normed))
            if i + 1 == self.tree.layers:
                break
            if mask is None:
                x = x + attention(normed, cos, sin, out[-1])
            else:
                x = x + torch.stack([masked_attention(attention, s, m, cos, sin) for s, m in zip(normed, mask)])
            x = x + block.mlp(block.post_attention_layernorm(x))
        return out

    def node_vectors(self, ids: Tensor) -> Tensor:
        """[N,len] -> [N,H]: lower block 0, last token, lower final norm (section 5)."""
        lower = self.lower
        cos, sin = lower.positions(ids.shape[1])
        return lower.norm(lower.layers[0](lower.embed_tokens(ids), cos, sin)[:, -1])

    def query_vector(self, local: Tensor, query_length: int | None = None) -> Tensor:
        """local [L] -> [H]: upper block 0 without injection, final norm (section 5)."""
        cos, sin = self.model.positions(len(local))
        x = self.model.layers[0](self.model.embed_tokens(local[None]), cos, sin)
        return self.model.norm(x[0, (query_length or len(local)) - 1])

    def thin(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Unrotated keys and values [N,g,len,d] of nodes -> keys rotated in the node, values [N,g,slots,d]."""
        length = k.shape[2]
        step = tree.step_of(length, self.tree.p)
        at = torch.arange(0, length, step, device=k.device)
        if self.tree.slot_kind == "mean":
            k, v = group_mean(k, step), group_mean(v, step)
        else:
            k, v = k[:, :, at], v[:, :, at]
        cos, sin = rotation(self.lower.config, at, k.dtype)
        return rotate(k, cos, sin), v

    # ---- one document, any semantics ----

    @torch.no_grad()
    def read(self, document: Tensor, local: Tensor, chunk_size: int, query_length: int | None = None,
             mask: Tensor | None = None, choose: tree.Choose | None = None) -> Memory | None:
        """document [T], local [L] -> memory. `choose` replaces the model's own choice (oracle, random)."""
        t = self.tree
        if len(document) == 0:
            return None
        chunks = tree.chunks_of(len(document), chunk_size)
        query = self.query_vector(local, query_length)
        vectors: dict[int, tuple[Tensor, Tensor]] = {}

        def own(level: int, pairs: list[tuple[tree.Node, tree.Node]]) -> list[int]:
            if not t.do_retrieval:
                return [tree.RIGHT] * len(pairs)
            halves = [p[0] for p in pairs] + [p[1] for p in pairs]
            states = self.of_nodes(halves, document)
            s = F.cosine_similarity(states, query[None], dim=-1, eps=1e-6)
            vectors[level] = states, s
            first, second = (s[0::2], s[1::2]) if t.semantics == "released" else s.chunk(2)
            return [tree.LEFT if a >= b else tree.RIGHT for a, b in zip(first.tolist(), second.tolist())]

        if t.semantics == "paper":
            levels = tree.grow_paper(chunks, t.depth, choose or own)
            rows = tree.order_paper(levels, len(chunks))
            memory = self.gather(rows, levels, document, None)
            memory.row = torch.tensor([[n.chunk for row in rows for n in row for _ in n.offsets(t.p)]])
            memory.query = torch.tensor([len(chunks) + 1])
        else:
            levels = tree.grow_released(chunks, t.depth, choose or own)
            rows = tree.order_released(levels)
            memory = self.gather(rows, levels, document, mask)
            width = len(memory.positions) // len(rows)
            memory.row = torch.tensor([[r // width for r in range(len(rows)) for _ in range(width)]])
            memory.query = torch.tensor([len(rows) + 1])
        memory.levels, memory.vectors, memory.query_vector = levels, vectors, query
        return memory

    def of_nodes(self, nodes: list[tree.Node], document: Tensor) -> Tensor:
        """Node vectors in the order of `nodes`; equal lengths are computed together."""
        out: list[Tensor | None] = [None] * len(nodes)
        for length in {len(n) for n in nodes}:
            which = [i for i, n in enumerate(nodes) if len(n) == length]
            states = self.node_vectors(torch.stack([document[nodes[i].start : nodes[i].end] for i in which]))
            for i, state in zip(which, states):
                out[i] = state
        return torch.stack(out)

    def gather(self, rows: list[list[tree.Node]], levels: list[tree.Level], document: Tensor, mask: Tensor | None) -> Memory:
        """Encodes and thins all nodes and puts their slots in the order of the rows."""
        nodes = [n for row in rows for n in row]
        masks = masks_of_rejected(levels, mask)
        parts: dict[tree.Node, list[tuple[Tensor, Tensor]]] = {}
        for length in {len(n) for n in nodes}:
            group = [n for n in nodes if len(n) == length]
            ids = torch.stack([document[n.start : n.end] for n in group])
            m = None
            if any(n in masks for n in group):
                m = torch.stack([masks.get(n, torch.ones(length, dtype=torch.bool)) for n in group])
            layers = [self.thin(k, v) for k, v in self.encode(ids, m)]
            for j, n in enumerate(group):
                parts[n] = [(k[j], v[j]) for k, v in layers]
        keys = [torch.cat([parts[n][i][0] for n in nodes], 1)[None] for i in range(self.tree.layers)]
        values = [torch.cat([parts[n][i][1] for n in nodes], 1)[None] for i in range(self.tree.layers)]
        positions = [n.start + o for n in nodes for o in n.offsets(self.tree.p)]
        none = torch.zeros(1, 1)
        return Memory(keys, values, none, none, positions)

    # ---- many equal documents at once, `paper` (training) ----

    def read_batch(self, ids: Tensor, paths: Tensor, index: Tensor, total: Tensor) -> Memory:
        """ids [B,n,C] with C divisible by 2^depth, paths [D-1,B,n] of 0 or 1 (1: right is chosen).

        index [B,n] is the chunk index of every chunk, total [B] the number of chunks of the (virtual) document.
        """
        batch, n, _ = ids.shape
        active, nodes = ids.flatten(0, 1), []
        for path in paths.view(len(paths), batch * n):
            both = torch.stack(active.chunk(2, 1), 1)  # [B*n,2,len/2]
            every = torch.arange(batch * n, device=ids.device)
            nodes.append(both[every, 1 - path])
            active = both[every, path]
        nodes.append(torch.cat(active.chunk(2, 1), 0))  # both leaves: [2*B*n, len]
        keys, values, rows = [[] for _ in range(self.tree.layers)], [[] for _ in range(self.tree.layers)], []
        for group in nodes:
            fold = len(group) // (batch * n)
            for i, (k, v) in enumerate(self.encode(group)):
                k, v = self.thin(k, v)
                for store, x in ((keys[i], k), (values[i], v)):
                    x = x.unflatten(0, (fold, batch, n)).permute(1, 3, 0, 2, 4, 5)  # [B,g,fold,n,slots,d]
                    store.append(x.flatten(2, 4))
            rows.append(index[:, None, :, None].expand(batch, fold, n, k.shape[2]).flatten(1))
        return Memory([torch.cat(k, 2) for k in keys], [torch.cat(v, 2) for v in values], torch.cat(rows, 1), total + 1)

    # ---- upper model ----

    def forward(self, ids: Tensor, memory: Memory | None = None, prompt: int | None = None,
                trace: dict | None = None) -> Tensor:
        """ids [B,L] -> logits [B,L,vocab]. `prompt` is the number of tokens of the first call: with `released`
        semantics the tokens behind it were decoded one by one, with another rotation (section 9)."""
        x = self.model.embed_tokens(ids)
        cos, sin = self.model.positions(ids.shape[1])
        if memory is not None:
            turn = self.query_rotation(memory, ids.shape[1], prompt, x.dtype)
        for i, block in enumerate(self.model.layers):
            x = x + block.self_attn(block.input_layernorm(x), cos, sin)
            if memory is not None and i < self.tree.layers:
                injected = block.cross_attn(x, memory.rotated(i, self.config), memory.values[i], *turn)
                if trace is not None:
                    trace.setdefault("cross_out", []).append(injected)
                x = x + injected
            x = x + block.mlp(block.post_attention_layernorm(x))
            if trace is not None:
                trace.setdefault("hidden", []).append(x)
        return self.logits(x)

    def query_rotation(self, memory: Memory, length: int, prompt: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, [B,1,1,d] or, for `released`, [1,1,L,d]."""
        cos, sin = rotation(self.config, memory.query, dtype)
        cos, sin = cos[:, None, None], sin[:, None, None]
        if self.tree.semantics != "released" or prompt is None:
            return cos, sin
        c, position = self.config, int(memory.query)
        angle = position * c.rope_theta ** (-2.0 * (position % (c.head_dim // 2)) / c.head_dim)
        single = torch.arange(length) >= (prompt if prompt > 1 else 0)
        single = single[None, None, :, None]
        return torch.where(single, math.cos(angle), cos.double()).to(dtype), torch.where(
            single, math.sin(angle), sin.double()).to(dtype)

    @torch.no_grad()
    def generate(self, local: Tensor, memory: Memory | None, count: int, as_decoded: bool) -> tuple[list[int], Tensor]:
        """Greedy tokens and the logits [count,vocab] they were taken from. The memory stays as it is.

        `as_decoded`: tokens after the prompt are computed as in a cached one-token step (matters for `released`).
        """
        ids, rows = local.clone(), []
        for _ in range(count):
            rows.append(self.forward(ids[None], memory, len(local) if as_decoded else None)[0, -1])
            ids = torch.cat([ids, rows[-1].argmax()[None]])
        return ids[len(local) :].tolist(), torch.stack(rows)


def group_mean(x: Tensor, step: int) -> Tensor:
    """[N,g,len,d] -> means over groups of `step` positions; the last group may be shorter."""
    length = x.shape[2]
    whole = length // step * step
    mean = x[:, :, :whole].unflatten(2, (-1, step)).mean(3)
    return mean if whole == length else torch.cat([mean, x[:, :, whole:].mean(2, keepdim=True)], 2)


def masks_of_rejected(levels: list[tree.Level], mask: Tensor | None) -> dict[tree.Node, Tensor]:
    """The released code gives a rejected half the mask of the chosen half (section 10). mask [T] bool."""
    if mask is None:
        return {}
    out = {}
    for level in levels:
        for pair, choice in zip(level.pairs, level.chosen):
            chosen = pair[choice]
            out[pair[1 - choice]] = mask[chosen.start : chosen.end]
    return out


def masked_attention(attention, x: Tensor, mask: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One node [len,H] where only the tokens with a true mask take part; the others get zero."""
    out = torch.zeros_like(x)
    if mask.any():
        part = x[mask][None]
        c, s = cos[mask], sin[mask]
        k, v = attention.keys_values(part)
        q = rotate(attention.split(attention.q_proj(part)), c, s)
        out[mask] = attention.o_proj(attend(q, rotate(k, c, s), v, causal=True))[0]
    return out


def build(config: dict, weights: dict[str, Tensor], dtype: torch.dtype) -> SharedLlama:
    """From a `config.json` in the layout of the fixtures and the tensors of its checkpoint."""
    t = TreeConfig(
        layers=-config["num_cross_attn_layers"], depth=config.get("segment_tree_depth", 3),
        last_p=str(config.get("last_p", "64")), do_retrieval=config.get("do_retrieval", True),
        semantics=config.get("semantics", "released"), slot_kind=config.get("slot_kind", "strided"),
        chunk_size=config.get("chunk_size", 1024))
    shared = config.get("encoder_weights") == "shared"
    lower = None if shared else LlamaConfig.of({**config, **config["encoder_config"]})
    model = SharedLlama(LlamaConfig.of(config), t, lower)
    weights = {k: v for k, v in weights.items() if k != "lm_head.weight" or not model.config.tie_word_embeddings}
    model.to(dtype).load_state_dict({k: v.to(dtype) for k, v in weights.items()})
    return model.eval()
