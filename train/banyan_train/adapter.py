"""Training of an adapter (`paper` semantics): cross-attention and an own lower model, the base stays as it is.

Half of the documents are look-ups: facts in the chunks, questions in the local text. The other half is plain text.
Paths are random, chunk indices are drawn from a much longer virtual document, and slots of earlier documents are
sometimes mixed in, so that the adapter learns to find one fact among many thousand slots.
"""
from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import data, export, loop, tensors
from .base import score
from .bpe import BEGIN, Tokenizer
from .config import LlamaConfig
from .sharedllm import Memory, SharedLlama, TreeConfig
from .synthetic import Lookups

LOCAL = 160  # tokens of the local text, the begin token not counted
VIRTUAL = 1000  # chunk indices are drawn from documents of up to so many chunks
SHAPES = [(1, 14), (2, 12), (3, 12), (5, 10), (8, 8), (11, 6), (15, 4)]  # chunks, documents in a batch


def from_base(folder: Path, tree: TreeConfig) -> SharedLlama:
    """The base with a lower model and a cross-attention copied from its lowest layers.

    Queries are doubled, because the mean of two keys is a weaker match than the key itself. The output starts as that
    of the self-attention, in layer 0 at zero: there no key knows yet what stands before it.
    """
    config = LlamaConfig.load(folder / "config.json")
    model = SharedLlama(config, tree, config, tree.layers)
    base = {k: v.float() for k, v in tensors.read(folder / "model.safetensors").items()}
    model.load_state_dict(base, strict=False)
    with torch.no_grad():
        model.encoder.embed_tokens.weight.copy_(model.model.embed_tokens.weight)
        model.encoder.norm.weight.copy_(model.model.norm.weight)
        for i in range(tree.layers):
            block = model.model.layers[i]
            own = {k: v for k, v in block.state_dict().items() if not k.startswith("cross_attn")}
            model.encoder.layers[i].load_state_dict(own)
            block.cross_attn.layernorm.weight.copy_(block.input_layernorm.weight)
            block.cross_attn.q_proj.weight.copy_(2 * block.self_attn.q_proj.weight)
            block.cross_attn.o_proj.weight.copy_(block.self_attn.o_proj.weight * (i > 0))
    for name, p in model.named_parameters():
        p.requires_grad_("cross_attn" in name or name.startswith("encoder."))
    return model


class Documents:
    """Draws documents of n chunks with their local text."""

    def __init__(self, texts: data.Slices, lookups: Lookups, rng: np.random.Generator):
        self.texts, self.lookups, self.rng = texts, lookups, rng

    def plain(self, n: int, size: int) -> dict:
        ids = self.texts.take(n * size + LOCAL)
        local = ids[n * size :]
        return {"chunks": ids[: n * size].reshape(n, size), "local": local, "weight": np.ones(LOCAL, np.float32),
                "answers": np.zeros(LOCAL, bool), "half": np.zeros(LOCAL, np.int64), "where": np.zeros(LOCAL, np.int64)}

    def lookup(self, n: int, size: int) -> dict:
        """Facts in the chunks (a few also in the local text) and as many questions as fit."""
        rng, look = self.rng, self.lookups
        most = max(1, min(3, size // 40))
        per_chunk = rng.integers(1 if n < 4 else 0, most + 1, n)
        if per_chunk.sum() == 0:
            per_chunk[rng.integers(n)] = 1
        here = int(rng.integers(1, 4)) if rng.random() < 0.6 else 0
        keys, values = look.pairs(int(per_chunk.sum()) + here)
        chunks, places = [], []
        source, used = self.texts.take(n * size + LOCAL), 0
        for c, count in enumerate(per_chunk):
            facts = [look.fact(k, v) for k, v in zip(keys[used : used + count], values[used : used + count])]
            room = size - sum(map(len, facts))
            ids, begins = look.insert(source[c * size : c * size + room], facts, 0, room)
            places += [(c, (b + len(f) - 2) * 2 // size) for b, f in zip(begins, facts)]
            chunks.append(ids)
            used += count
        places += [(-1, 0)] * here
        order = rng.permutation(len(keys))
        parts, marks = [], []
        head = [t for i in range(used, len(keys)) for t in look.fact(keys[i], values[i])]
        length = len(head)
        for i in order:
            question = [*look.question(keys[i]), int(values[i]), *look.endings[0]]
            if length + len(question) > LOCAL - 4:
                break
            parts.append(question)
            marks.append(i)
            length += len(question)
        text = source[n * size : n * size + LOCAL - length]
        at_once = rng.random() < 0.4
        body, begins = look.insert(text, parts, 0, 0 if at_once else len(text))
        local = np.concatenate([np.asarray(head, dtype=np.int64), body])
        out = {"chunks": np.stack(chunks), "local": local, "weight": np.ones(LOCAL, np.float32),
               "answers": np.zeros(LOCAL, bool), "half": np.zeros(LOCAL, np.int64), "where": np.zeros(LOCAL, np.int64)}
        for i, begin, part in zip(marks, begins, parts):
            at = len(head) + begin + len(part) - 2
            out["weight"][at], out["weight"][at - 2], out["answers"][at] = 5.0, 0.0, True
            out["where"][at], out["half"][at] = places[i]
        return out


def batch_of(rows: list[dict], device: str) -> dict[str, Tensor]:
    out = {name: torch.from_numpy(np.stack([r[name] for r in rows])).to(device) for name in rows[0]}
    begin = torch.full((len(rows), 1), BEGIN, device=device)
    pad = lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], 1)
    out["ids"] = torch.cat([begin, out.pop("local").long()], 1)
    return {**out, **{name: pad(out[name]) for name in ("weight", "answers", "half", "where")}}


def indices(rng: np.random.Generator, batch: int, n: int) -> tuple[Tensor, Tensor]:
    """Sorted chunk indices [B,n] out of a virtual document, and its number of chunks [B]."""
    index, total = np.zeros((batch, n), np.int64), np.zeros(batch, np.int64)
    for b in range(batch):
        real = rng.random() < 0.3
        total[b] = n if real else int(np.exp(rng.uniform(np.log(n), np.log(VIRTUAL))))
        index[b] = np.arange(n) if real else np.sort(rng.choice(total[b], n, replace=False))
    return torch.from_numpy(index), torch.from_numpy(total)


class Bank:
    """Slots of earlier text documents, without gradient: more to be told apart at little cost."""

    def __init__(self, rng: np.random.Generator, size: int = 24):
        self.rng, self.parts = rng, deque(maxlen=size)

    def add(self, memory: Memory, rows: slice) -> None:
        flat = lambda x: x[rows].detach().transpose(0, 1).flatten(1, 2)[None]
        self.parts.append(([flat(k) for k in memory.keys], [flat(v) for v in memory.values]))

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
        batch = memory.row.shape[0]
        for i in range(len(memory.keys)):
            spread = lambda k: torch.cat([c[k][i] for c in chosen], 2)[:, :, :wanted].expand(batch, -1, -1, -1)
            memory.keys[i] = torch.cat([memory.keys[i], spread(0)], 2)
            memory.values[i] = torch.cat([memory.values[i], spread(1)], 2)
        extra = memory.keys[0].shape[2] - memory.row.shape[1]
        place = torch.from_numpy(self.rng.random((batch, extra))).to(memory.row.device) * (memory.query[:, None] - 1)
        memory.row = torch.cat([memory.row, place.long().sort(1).values], 1)


def train(args) -> None:
    torch.set_num_threads(args.threads)
    base, out = Path(args.base), Path(args.output)
    tokenizer = Tokenizer.load(base / "tokenizer.json")
    arrays, valid = data.load(tokenizer, Path(args.data), Path(args.work) / "tokens")
    rng = np.random.default_rng(args.seed)
    lookups = Lookups(tokenizer, rng)
    documents = Documents(data.Slices(arrays, rng), lookups, rng)
    tree = TreeConfig(layers=args.layers, depth=args.depth, last_p=args.last_p, semantics="paper", slot_kind=args.slot_kind,
                      chunk_size=args.chunk_size)
    torch.manual_seed(args.seed)
    model = from_base(base, tree).to(args.device)
    bank = Bank(rng)
    hits: deque[tuple[int, int]] = deque(maxlen=4000)

    def step_loss(step: int):
        n, count = SHAPES[rng.integers(len(SHAPES))]
        mixed = step > args.mix_after and rng.random() < args.mix_share
        count = min(count, 6) if mixed else count
        size = args.chunk_size if rng.random() < 0.8 else int(rng.choice([64, 96, 128, 192]))
        rows = [documents.lookup(n, size) if b % 2 == 0 else documents.plain(n, size) for b in range(count)]
        batch = batch_of(rows, args.device)
        index, total = (x.to(args.device) for x in indices(rng, count, n))
        paths = torch.from_numpy(rng.integers(0, 2, (args.depth - 1, count, n))).to(args.device)
        memory = model.read_batch(batch["chunks"].long(), paths, index, total)
        bank.add(memory, slice(1, None, 2))
        if mixed:
            bank.mix(memory, args.mix)
        logits = model(batch["ids"], memory)[:, :-1].flatten(0, 1)
        targets, weight = batch["ids"][:, 1:].flatten(), batch["weight"][:, 1:].flatten()
        answers = batch["answers"][:, 1:].flatten()
        loss = loop.weighted_loss(logits, targets, weight)
        with torch.no_grad():
            right = logits[answers].argmax(-1) == targets[answers]
            row = torch.arange(count).repeat_interleave(LOCAL).to(answers.device)[answers]
            where, half = batch["where"][:, 1:].flatten()[answers], batch["half"][:, 1:].flatten()[answers]
            fine = (paths[0][row, where.clamp(min=0)] == half).long()
            grain = torch.where(where < 0, torch.full_like(fine, 2), fine)
            hits.extend(zip(grain.tolist(), right.tolist()))
            text = loop.weighted_loss(logits, targets, ((weight == 1) & ~answers).float()).item()
        recent = list(hits)[-400:]
        rate = lambda g: float(np.mean([r for k, r in recent if k == g] or [float("nan")]))
        return loss, {"text": text, "coarse": rate(0), "fine": rate(1), "local": rate(2)}, count * (n * size + LOCAL)

    def report(step: int) -> dict:
        export.adapter(model, out, matching=args.matching)
        return {}

    loop.run(model, step_loss, steps=args.steps, minutes=args.minutes, peak=args.rate, warmup=30, decay=0.01,
             folder=Path(args.work) / args.name, rngs=[rng], every=args.every, report=report)
