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
    "depth 3": {"depth": 3},
    "strided slots": {"slot_kind": "strided"},
    "half the slots": {"last_p": "half"},
    "M = 2": {"layers": 2},
    "M = 4": {"layers": 4},
    "cosine": {"selection": "cosine"},
    "shared lower model": {"lower": "shared"},
    "LoRA lower model": {"lower": "lora"},
    "banded positions": {"semantics": "nested", "positions": "banded"},
    "paper": {"semantics": "paper", "positions": "sum"},
    "nested": {"semantics": "nested"},
}
COLUMNS = ["own", "random", "oracle", "uniform", "all", "groups", "slots_per_chunk"]


def changed(args, changes: dict):
    """The options of one variant; None where it makes no difference to what was given."""
    if not changes:
        return args
    own = copy.copy(args)
    for key, value in changes.items():
        setattr(own, key, str(max(1, int(args.last_p) // 2)) if value == "half" else value)
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
    head = ["variant", "trained"] + [f"{c} {n}" for n in chunks for c in [*COLUMNS, "recall", "text"]]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        cells = [name, f"{row['trained'] / 1e3:.0f} K"]
        for n in chunks:
            have = row[n]
            share = lambda c: "–" if c not in have else f"{100 * have[c]:.0f}" if c != "slots_per_chunk" else str(have[c])
            recall = [k for k in have if k.startswith("recall")]
            cells += [share(c) for c in COLUMNS] + [share(max(recall)) if recall else "–", f"{have['text']:+.3f}"]
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
    text = (table(rows, args.chunks.split(",")) + "\n\nShares of right answers in %, by number of chunks; text: change of the loss by "
            f"the memory, nats a token. {args.steps} steps each, seed {args.seed}, base {base.fingerprint()}.\n")
    (out / "ablation.md").write_text(text, encoding="utf-8")
    print(text)
