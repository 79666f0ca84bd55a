"""Training of a SharedLLM adapter (`paper` or `nested`): cross-attention, and perhaps a lower model; the base stays.

Documents have one to many chunks, at indices drawn from a much longer virtual document; slots of earlier documents are
sometimes mixed in, so that the adapter learns to find one fact among many thousand slots.
"""
from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import numpy as np
import torch

from . import bases, data, export, loop, nested, parallel
from .base import lookup_accuracy
from .llama import Llama
from .samples import Bank, Documents, batch_of, indices, levels_of, paths_of
from .memory import TreeConfig
from .sharedllm import SharedLlama
from .synthetic import KINDS, Lookups


def from_base(base: bases.Base, tree: TreeConfig, lower: str = "own", lora: tuple[int, float] = (8, 16.0)) -> SharedLlama:
    """The base with a cross-attention, and a lower model, copied from its lowest layers. Only those are trained.

    Queries are doubled, because the mean of two keys is a weaker match than the key itself. The output starts as that
    of the self-attention, in layer 0 at zero: there no key knows yet what stands before it.
    """
    c = base.config
    model = SharedLlama(c, tree, c if lower == "own" else None, tree.layers, lora if lower == "lora" else None)
    model.load_state_dict(base.state, strict=False)
    with torch.no_grad():
        if lower == "own":
            model.encoder.embed_tokens.weight.copy_(model.model.embed_tokens.weight)
            model.encoder.norm.weight.copy_(model.model.norm.weight)
        for i in range(tree.layers):
            block = model.model.layers[i]
            if lower == "own":
                own = {k: v for k, v in block.state_dict().items() if not k.startswith("cross_attn")}
                model.encoder.layers[i].load_state_dict(own)
            block.cross_attn.layernorm.weight.copy_(block.input_layernorm.weight)
            block.cross_attn.q_proj.weight.copy_(2 * block.self_attn.q_proj.weight)
            block.cross_attn.o_proj.weight.copy_(block.self_attn.o_proj.weight * (i > 0))
    trained = {id(p) for name, p in model.named_parameters() if "cross_attn" in name or name.startswith("encoder.")}
    for p in model.parameters():
        p.requires_grad_(id(p) in trained)
    return model


def require_lookup(base: bases.Base, valid: dict[str, np.ndarray], device: str, least: float = 0.95) -> float:
    """Refuses a base that cannot look a fact up inside its own window: no adapter can teach it that."""
    model = Llama(base.config)
    model.load_state_dict(base.state, strict=False)
    accuracy = lookup_accuracy(model.to(device).eval(), base.tokenizer, valid, np.random.default_rng(1), device)
    if accuracy < least:
        raise SystemExit(f"{base.source} answers {100 * accuracy:.1f} % of the look-ups inside its window, fewer than "
                         f"{100 * least:.0f} %: train it longer, or pass --allow-weak-base")
    return accuracy


def matching_of(args, base: bases.Base) -> dict:
    """What `matching` measured for this base: selection_layer, selection_heads, layers. Empty if it was not run."""
    path = Path(args.matching) if args.matching else base.folder / "matching.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def positions_of(args) -> str:
    return ("banded" if args.semantics == "nested" else "sum") if args.positions == "auto" else args.positions


def tree_of(args, base: bases.Base) -> TreeConfig:
    found = matching_of(args, base)
    layers = args.layers or found.get("layers") or 3
    selection = args.selection
    if selection == "auto":
        selection = "token_keys" if found.get("good") and found["selection_layer"] < layers else "cosine"
    if selection == "token_keys" and not found:
        raise SystemExit("--selection token_keys needs a measured layer: run `matching` first, or name its file with --matching")
    heads = tuple(found["selection_heads"]) if selection == "token_keys" else ()
    return TreeConfig(layers=layers, depth=args.depth, last_p=args.last_p, semantics=args.semantics, slot_kind=args.slot_kind,
                      chunk_size=args.chunk_size, positions=positions_of(args), selection=selection,
                      selection_layer=found["selection_layer"] if selection == "token_keys" else 0, selection_heads=heads,
                      slot_budget=args.slot_budget, budget_unit=args.budget_unit)


def sizes_of(tree: TreeConfig, depth: int) -> list[int]:
    """Chunk sizes for training: the adapter's and smaller ones that halve evenly."""
    def even(size: int) -> bool:
        (chunk,) = nested.cut(size, size, depth, tree.p)
        return size % 2**depth == 0 and chunk.groups % 2**depth == 0 and chunk.groups * chunk.step == size
    sizes = [s for s in (tree.chunk_size, tree.chunk_size // 4, tree.chunk_size * 3 // 8, tree.chunk_size // 2,
                         tree.chunk_size * 3 // 4) if s >= 32 and even(s)]
    if not sizes or sizes[0] != tree.chunk_size:
        raise SystemExit(f"chunks of {tree.chunk_size} tokens do not halve evenly at depth {depth} with last_p {tree.last_p}")
    return sizes


class Trainer:
    """One adapter's samples, loss and metrics."""

    def __init__(self, args, base: bases.Base, arrays: dict[str, np.ndarray], device: str):
        self.args, self.base, self.device = args, base, device
        self.rng = np.random.default_rng([args.seed, parallel.rank()])
        kinds = dict(zip(KINDS, (0.7, 0.1, 0.1, 0.1))) if args.kinds == "all" else None
        lookups = Lookups(base.tokenizer, self.rng, kinds)
        self.documents = Documents(data.Slices(arrays, self.rng), lookups, self.rng, args.local)
        torch.manual_seed(args.seed)
        self.model = from_base(base, tree_of(args, base), args.lower, (args.rank, args.alpha)).to(device)
        self.model.checkpointing = args.checkpointing
        self.bank = Bank(self.rng)
        self.hits: deque[tuple[int, bool]] = deque(maxlen=4000)
        self.sizes = {d: sizes_of(self.model.tree, d) for d in (range(1, args.depth + 1) if args.random_depth else [args.depth])}

    def shape(self) -> tuple[int, int, int, int]:
        """depth, chunks, tokens of a chunk and documents of the next batch."""
        rng, a = self.rng, self.args
        depth = int(rng.choice(list(self.sizes)))
        sizes = self.sizes[depth]
        size = sizes[0] if rng.random() < 0.8 else int(rng.choice(sizes))
        most = max(1, a.longest // size)
        n = min(most, int(np.exp(rng.uniform(0, np.log(most + 1)))))
        return depth, n, size, max(2, min(a.most_documents, a.batch // (n * size + a.local)))

    def draw(self, step: int):
        rng, a, model = self.rng, self.args, self.model
        depth, n, size, count = self.shape()
        mixed = a.mix > 0 and step > a.mix_after and rng.random() < a.mix_share
        count = max(2, count // 2) if mixed else count
        rows = [self.documents.lookup(n, size) if b % 2 == 0 else self.documents.plain(n, size) for b in range(count)]
        paths = paths_of(rows, depth, rng, a.open)
        batch = batch_of(rows, self.device, self.base.tokenizer.begin)
        index, total = (x.to(self.device) for x in indices(rng, count, n, a.virtual))
        memory = model.read_batch(batch["chunks"].long(), torch.from_numpy(paths).to(self.device), index, total)
        if a.mix > 0:
            self.bank.add(memory, slice(1, None, 2))
        if mixed:
            self.bank.mix(memory, a.mix)
        logits = model(batch["ids"], memory)[:, :-1].flatten(0, 1)
        targets, weight = batch["ids"][:, 1:].flatten(), batch["weight"][:, 1:].flatten()
        answers = batch["answers"][:, 1:].flatten()
        losses = loop.token_losses(logits, targets)
        with torch.no_grad():
            right = (logits[answers].argmax(-1) == targets[answers]).cpu().numpy()
            at = answers.cpu().numpy().nonzero()[0]
            where, offset = (batch[k][:, 1:].flatten().cpu().numpy()[at] for k in ("where", "offset"))
            levels = levels_of(paths, at // a.local, where, offset, size)
            self.hits.extend(zip((levels + (levels > 0) * (a.depth - depth)).tolist(), right.tolist()))
            text = loop.weighted_mean(losses, ((weight == 1) & ~answers).float()).item()
        return loop.weighted_mean(losses, weight), {"text": text, **self.recall()}, count * (n * size + a.local)

    def recall(self) -> dict[str, float]:
        """Share of right answer tokens by level, the finest last; of facts in the local text."""
        recent = list(self.hits)[-800:]
        rate = lambda g: float(np.mean([r for k, r in recent if k == g] or [float("nan")]))
        return {"local": rate(0), **{f"level{g}": rate(g) for g in range(1, self.args.depth + 1)}}


def train(args) -> bool:
    """True when the training is over (see `loop.run`)."""
    torch.set_num_threads(args.threads)
    device = parallel.start(args.device)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    arrays, valid = bases.texts_of(base, args)
    if args.require_lookup and not args.dry_run:
        print(f"look-ups inside the window: {100 * require_lookup(base, valid, device):.1f} %", flush=True)
    trainer = Trainer(args, base, arrays, device)
    described = base.described()

    def report(step: int) -> dict:
        export.adapter(trainer.model, Path(args.output), described)
        return {}

    plan = loop.Plan(folder=Path(args.work) / args.name, steps=args.steps, minutes=args.minutes, peak=args.rate, warmup=30,
                     decay=0.01, accumulate=args.accumulate, precision=args.precision, every=args.every, until=args.until,
                     save_every=args.save_every, dry_run=args.dry_run)
    return loop.run(trainer.model, trainer.draw, plan, rngs=[trainer.rng], report=report, device=device,
                    remembered=[trainer.bank])
