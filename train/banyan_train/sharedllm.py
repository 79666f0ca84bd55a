"""SharedLLM: a Llama whose lowest layers also attend to the compressed document (self-injection).

Four semantics: `released` (what the published code computes), `corrected` (the same weights, but siblings are
compared and decoding rotates like prefill), `paper` (each chunk by itself, chunk index as position) and `nested` (a
chunk is encoded once, see `nested_memory`).
Two kinds of slots: `strided` and `mean`. Section numbers mean the specification of the released code.

Shapes: B rows, n chunks, S slots in total, L local tokens, g kv heads, h query heads, d head size, H hidden.
"""
from __future__ import annotations

import math
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import nested, tree
from .config import LlamaConfig
from .llama import Decoder, Llama, RMSNorm, attend, recomputed, rotate, rotation, turn
from .lora import LoraDecoder
from .memory import Memory, TreeConfig
from .selection import token_scores


class CrossAttention(nn.Module):
    """Queries of the upper layer against finished keys and values (section 8)."""

    def __init__(self, c: LlamaConfig):
        super().__init__()
        self.head_dim = c.head_dim
        self.layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        """[B,L,H] -> [B,h,L,d], not turned."""
        return self.q_proj(self.layernorm(x)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def forward(self, x: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B,L,H], k and v [B,g,S,d], cos and sin of the query position, broadcast to [B,h,L,d]."""
        return self.o_proj(attend(rotate(self.queries(x), cos, sin), k, v, causal=False))


class SharedLlama(Llama):
    """Upper model, cross-attention and (unless shared) an own lower model `encoder`."""

    def __init__(self, c: LlamaConfig, t: TreeConfig, lower: LlamaConfig | None = None, lower_layers: int | None = None,
                 lora: tuple[int, float] | None = None):
        """`lower`: an own lower model of this shape; `lora`: rank and alpha of one that is the base's with changes."""
        super().__init__(c)
        t.check()
        self.tree = t
        for block in self.model.layers[: t.layers]:
            block.cross_attn = CrossAttention(c)
        self.encoder = None if lower is None else Decoder(lower, lower_layers or lower.num_hidden_layers)
        if lora:
            self.encoder = LoraDecoder(self.model, t.layers, *lora)

    @property
    def lower(self) -> Decoder | LoraDecoder:
        return self.model if self.encoder is None else self.encoder

    @property
    def lower_kind(self) -> str:
        return "shared" if self.encoder is None else "lora" if isinstance(self.encoder, LoraDecoder) else "own"

    # ---- where keys and queries stand ----

    def fast(self, device) -> Tensor:
        """[d/2]: the pairs that `banded` turns by the place in the chunk; the others tell the chunk's place."""
        pairs = self.config.head_dim // 2
        return torch.arange(pairs, device=device) < pairs // 2

    def turn_in_chunk(self, offsets: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A key's first rotation, cos and sin [..., d] of offsets [...]; YaRN's magnitude is in this one."""
        c, by_pair = self.lower.config, offsets[..., None]
        by_pair = by_pair * self.fast(offsets.device) if self.tree.positions == "banded" else by_pair
        return turn(c, by_pair, dtype, c.rope.magnitude)

    def turn_of_chunk(self, row: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A key's second rotation, of its chunk's index."""
        by_pair = row[..., None]
        by_pair = by_pair * ~self.fast(row.device) if self.tree.positions == "banded" else by_pair
        return turn(self.lower.config, by_pair, dtype)

    def turn_of_query(self, query: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """query [...] is the number of chunks + 1."""
        c, by_pair = self.lower.config, query[..., None]
        if self.tree.positions == "banded":
            fast = self.fast(query.device)
            by_pair = size * fast + by_pair * ~fast
        return turn(c, by_pair, dtype, c.rope.magnitude)

    def rotated(self, memory: Memory) -> list[Tensor]:
        """All keys as attention sees them, per layer [B,g,S,d]."""
        cos, sin = self.turn_of_chunk(memory.row, memory.keys[0].dtype)
        return [rotate(k, cos[:, None], sin[:, None]) for k in memory.keys]

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
                x = x + recomputed(attention, normed, cos, sin, out[-1], on=self.checkpointing)
            else:
                x = x + torch.stack([masked_attention(attention, s, m, cos, sin) for s, m in zip(normed, mask)])
            x = x + recomputed(block.mlp, block.post_attention_layernorm(x), on=self.checkpointing)
        return out

    def states_after_first(self, ids: Tensor) -> Tensor:
        """[N,len] -> [N,len,H]: lower block 0, lower final norm, of every token."""
        lower = self.lower
        return lower.norm(lower.layers[0](lower.embed_tokens(ids), *lower.positions(ids.shape[1])))

    def node_vectors(self, ids: Tensor) -> Tensor:
        """[N,len] -> [N,H]: the last token of each (section 5)."""
        return self.states_after_first(ids)[:, -1]

    def query_vector(self, local: Tensor, query_length: int | None = None) -> Tensor:
        """local [L] -> [H]: upper block 0 without injection, final norm (section 5)."""
        cos, sin = self.model.positions(len(local))
        x = self.model.layers[0](self.model.embed_tokens(local[None]), cos, sin)
        return self.model.norm(x[0, (query_length or len(local)) - 1])

    def cross_query(self, local: Tensor, query_length: int | None = None) -> Tensor:
        """local [L] -> [h,d]: the cross query of the selection layer at the token that asks; nothing is injected below."""
        layer = self.tree.selection_layer
        x = self.model.embed_tokens(local[None, : query_length or len(local)])
        cos, sin = self.model.positions(x.shape[1])
        for block in self.model.layers[:layer]:
            x = block(x, cos, sin)
        block = self.model.layers[layer]
        x = x + block.self_attn(block.input_layernorm(x), cos, sin)
        return block.cross_attn.queries(x[:, -1:])[0, :, 0]

    def scores_of_tokens(self, keys: list[Tensor], local: Tensor, query_length: int | None, size: int) -> Tensor:
        """Token keys (`selection`): raw keys [g,n,d] of every chunk, read from its first token -> scores of all tokens."""
        device, dtype = keys[0].device, keys[0].dtype
        each = torch.arange(max(k.shape[1] for k in keys), device=device)
        cos, sin = self.turn_in_chunk(each, dtype)
        turned = torch.cat([rotate(k, cos[: k.shape[1]], sin[: k.shape[1]]) for k in keys], 1)
        row = torch.cat([torch.full((k.shape[1],), c, device=device) for c, k in enumerate(keys)])
        turned = rotate(turned, *self.turn_of_chunk(row, dtype))
        query = self.cross_query(local, query_length)
        at = torch.tensor(len(keys) + 1, device=query.device)
        query = rotate(query, *self.turn_of_query(at, size, query.dtype))
        return token_scores(query, turned, list(self.tree.selection_heads))

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
        """document [T], local [L] -> memory. `choose` replaces the model's own choice (oracle, random; not `nested`)."""
        t = self.tree
        if len(document) == 0:
            return None
        if t.semantics == "nested":
            from . import nested_memory

            return nested_memory.read(self, document, local, chunk_size, query_length)
        chunks = tree.chunks_of(len(document), chunk_size)
        query = self.query_vector(local, query_length)
        vectors: dict[int, tuple[Tensor, Tensor]] = {}
        scores = None
        if t.do_retrieval and t.selection == "token_keys":
            keys = [self.encode(document[None, c.start : c.end])[t.selection_layer][0][0] for c in chunks]
            scores = self.scores_of_tokens(keys, local, query_length, chunk_size)
        best = lambda node: scores[node.start : node.end].max()
        opened: dict[int, float] = {} if scores is None else {c.chunk: best(c).item() for c in chunks}  # the open span's score
        closed: dict[int, list[float]] = {c.chunk: [] for c in chunks}  # those of the halves left behind

        def own(level: int, pairs: list[tuple[tree.Node, tree.Node]]) -> list[int]:
            if not t.do_retrieval:
                return [tree.RIGHT] * len(pairs)
            halves = [p[0] for p in pairs] + [p[1] for p in pairs]
            if scores is not None:
                s = torch.stack([best(n) for n in halves])
            else:
                states = self.of_nodes(halves, document)
                s = F.cosine_similarity(states, query[None], dim=-1, eps=1e-6)
                vectors[level] = states, s
            first, second = (s[0::2], s[1::2]) if t.semantics == "released" else s.chunk(2)
            for (left, _), a, b in zip(pairs, first.tolist(), second.tolist()):
                opened[left.chunk] = max(a, b)
                closed[left.chunk].append(min(a, b))
            return [tree.LEFT if a >= b else tree.RIGHT for a, b in zip(first.tolist(), second.tolist())]

        if t.semantics == "paper":
            levels = tree.grow_paper(chunks, t.depth, choose or own)
            rows = tree.order_paper(levels, len(chunks))
            if t.slot_budget:
                ranks = [nested.rank([opened.get(c.chunk), *closed[c.chunk]]) for c in chunks]
                kept = nested.within_budget([sum(len(n.offsets(t.p)) for n in row) for row in rows], ranks, t.slot_budget)
                rows = [row if i in kept else [] for i, row in enumerate(rows)]
                for level in levels:
                    level.nodes = [n for n in level.nodes if n.chunk in kept]
                if not kept:
                    return None
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
        """ids [B,n,C] with C divisible by 2^depth, paths [depth-1,B,n] of 0 or 1 (1: right is chosen); the paths tell
        the depth, which may differ from the adapter's.

        index [B,n] is the chunk index of every chunk, total [B] the number of chunks of the (virtual) document.
        """
        if self.tree.semantics == "nested":
            from .grains import Grains

            grains = Grains(self, ids.flatten(0, 1), len(paths) + 1)
            return grains.memory(grains.pick(paths.flatten(1)), index, total)
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
            at, keys = self.query_rotation(memory, ids.shape[1], prompt, x.dtype), self.rotated(memory)
        for i, block in enumerate(self.model.layers):
            inject = (keys[i], memory.values[i], *at) if memory is not None and i < self.tree.layers else None
            x, injected = recomputed(self.layer, i, x, cos, sin, inject, on=self.checkpointing)
            if trace is not None:
                trace.setdefault("hidden", []).append(x)
                trace.setdefault("cross_out", []).extend([] if injected is None else [injected])
        return self.logits(x)

    def layer(self, i: int, x: Tensor, cos: Tensor, sin: Tensor, inject: tuple | None) -> tuple[Tensor, Tensor | None]:
        """One upper layer: x [B,L,H] after it, and what its cross-attention added."""
        block, injected = self.model.layers[i], None
        x = x + block.self_attn(block.input_layernorm(x), cos, sin)
        if inject is not None:
            injected = block.cross_attn(x, *inject)
            x = x + injected
        return x + block.mlp(block.post_attention_layernorm(x)), injected

    def query_rotation(self, memory: Memory, length: int, prompt: int | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin, [B,1,1,d] or, for `released`, [1,1,L,d]."""
        cos, sin = (x[:, None, None] for x in self.turn_of_query(memory.query, memory.size, dtype))
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
    kind = config.get("lower") or ("shared" if config.get("encoder_weights") == "shared" else "own")
    lower = LlamaConfig.of({**config, **config.get("encoder_config", {})}) if kind == "own" else None
    lora = (config["lora_rank"], config["lora_alpha"]) if kind == "lora" else None
    model = SharedLlama(LlamaConfig.of(config), TreeConfig.of(config), lower, None, lora)
    weights = {k: v for k, v in weights.items() if k != "lm_head.weight" or not model.config.tie_word_embeddings}
    load(model, weights, dtype)
    return model.eval()


def load(model: SharedLlama, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Projections that a LoRA lower model does not change may be missing."""
    missing = {k: torch.zeros_like(v) for k, v in model.state_dict().items() if ".lora_" in k and k not in weights}
    model.to(dtype).load_state_dict({k: v.to(dtype) for k, v in {**weights, **missing}.items()})
