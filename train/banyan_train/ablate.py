"""What every choice is worth: the same base, data, seed and steps, one thing changed at a time; one table.

Every row is measured with the adapter's own rule and with controls: a random path, the path to the fact, slots of equal
size, no thinning.
"""
from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import torch

from . import adapter, bases, eval, export, loop, parallel

# name: options that differ from those given on the command line
VARIANTS: dict[str, dict] = {
    "as given": {},
    "depth 1": {"depth": 1},
    "depth 2": {"depth": 2},
    "depth 3": {"depth": 3},
    "depth 4": {"depth": 4},
    "8 slots a node": {"last_p": "8"},
    "16 slots a node": {"last_p": "16"},
    "32 slots a node": {"last_p": "32"},
    "strided slots": {"slot_kind": "strided"},
    "M = 1": {"layers": 1},
    "M = 2": {"layers": 2},
    "M = 3": {"layers": 3},
    "M = 4": {"layers": 4},
    "cosine": {"selection": "cosine"},
    "shared lower model": {"lower": "shared"},
    "LoRA lower model": {"lower": "lora"},
    "sum positions": {"positions": "sum"},
    "banded positions": {"semantics": "nested", "positions": "banded"},
    "indices up to 1000 chunks": {"virtual": 1000},
    "paper": {"semantics": "paper", "positions": "sum"},
    "nested": {"semantics": "nested"},
}
CONTROLS = ["random", "oracle", "uniform", "all", "groups"]


def changed(args, changes: dict):
    """The options of one variant; None where it makes no difference to what was given."""
    if not changes:
        return args
    own = copy.copy(args)
    for key, value in changes.items():
        setattr(own, key, value)
    return None if all(getattr(own, k) == getattr(args, k) for k in changes) else own


def one(args, base: bases.Base, arrays: dict, valid: dict, folder: Path) -> dict:
    trainer = adapter.Trainer(args, base, arrays, args.device)
    plan = loop.Plan(folder=folder, steps=args.steps, minutes=args.minutes, peak=args.rate, every=10**9,
                     accumulate=args.accumulate, precision=args.precision, until=args.until, save_every=args.save_every)
    if not loop.run(trainer.model, trainer.draw, plan, rngs=[trainer.rng], report=lambda step: {}, device=args.device,
                    remembered=[trainer.bank]):
        raise SystemExit("stopped before the end: call again to go on")
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    model, rng, row = trainer.model.eval(), np.random.default_rng(args.seed), {"trained": trained, "training": trainer.recall()}
    for n in map(int, args.chunks.split(",")):
        cells = eval.lookups(model, base, valid, n, args.documents, args.facts, rng, budget=256)
        cells["text"] = eval.text(model, base, valid, n, 2 * args.documents, rng, args.local)["change"]
        print(f"{folder.name} chunks={n} {eval.show(cells)}", flush=True)
        row[str(n)] = cells
    return row


def table(rows: dict[str, dict], chunks: list[str]) -> str:
    """The adapter's own rule and the change of text at every length, the controls at the last one."""
    last = chunks[-1]
    head = ["variant", "trained", "slots a chunk", *(f"own, {n}" for n in chunks), *CONTROLS, "path right", *(f"text, {n}" for n in chunks)]
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for name, row in rows.items():
        share = lambda n, what: f"{100 * row[n][what]:.0f}" if what in row[n] else "–"
        path = max((k for k in row[last] if k.startswith("recall")), default="")
        cells = [name, f"{row['trained'] / 1e3:.0f} K", str(row[last]["slots_per_chunk"]), *(share(n, "own") for n in chunks),
                 *(share(last, way) for way in CONTROLS), share(last, path), *(f"{row[n]['text']:+.3f}" for n in chunks)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(args) -> None:
    torch.set_num_threads(args.threads)
    args.device, out = parallel.start(args.device), Path(args.output)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    arrays, valid = bases.texts_of(base, args)
    if args.require_lookup:
        adapter.require_lookup(base, valid, args.device)
    out.mkdir(parents=True, exist_ok=True)
    args.positions = adapter.positions_of(args)  # so that a variant which names the same has no row
    given = {k: v for k, v in vars(args).items() if k not in ("function", "only", "output", "until", "threads", "device")}
    given["base_fingerprint"] = base.fingerprint()
    path, rows = out / "ablation.json", {}
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8")))["given"] == json.loads(json.dumps(given)):
        rows = before["rows"]  # a run that was cut goes on with the variants that are missing
    names = [n.strip() for n in args.only.split(",") if n.strip()] or list(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            raise SystemExit(f"no variant {name!r}; there are: {', '.join(VARIANTS)}")
        own = changed(args, VARIANTS[name])
        if name in rows or own is None or own.layers > base.config.num_hidden_layers:
            continue
        rows[name] = one(own, base, arrays, valid, Path(args.work) / args.name / name.replace(" ", "-"))
        export.write_json(path, {"given": given, "rows": rows})
    text = (table(rows, args.chunks.split(",")) + "\n\nShares of right answers in %, by number of chunks (controls: of the last); path right: own path "
            f"leads to the fact; text: change of the loss by the memory, nats a token. {args.steps} steps each, seed {args.seed}, base {base.fingerprint()}.\n")
    (out / "ablation.md").write_text(text, encoding="utf-8")
    print(text)
