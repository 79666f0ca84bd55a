"""Training of the base model: text, and look-ups inside the window."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import data, export, loop
from .bpe import BEGIN, Tokenizer
from .config import DEMO
from .llama import Llama, initialise, plant_matching
from .synthetic import Lookups, Row


def plain(text: np.ndarray) -> Row:
    return Row(text, np.ones(len(text), np.float32), np.zeros(len(text), bool))


def batch_of(rows: list[Row], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """ids [B,T], weight [B,T], answers [B,T]; every row begins with the begin token."""

    def stack(arrays: list[np.ndarray], first) -> Tensor:
        return torch.from_numpy(np.stack([np.concatenate([[first], a]) for a in arrays])).to(device)

    return (stack([r.ids for r in rows], BEGIN).long(), stack([r.weight for r in rows], 0).float(),
            stack([r.answers for r in rows], False).bool())


def score(model: Llama, ids: Tensor, weight: Tensor, answers: Tensor) -> tuple[Tensor, float, float]:
    """Weighted loss, accuracy of the answers, and mean loss of the other scored tokens."""
    logits = model(ids)[:, :-1].flatten(0, 1)
    targets, weight, answers = ids[:, 1:].flatten(), weight[:, 1:].flatten(), answers[:, 1:].flatten()
    loss = loop.weighted_loss(logits, targets, weight)
    with torch.no_grad():
        right = (logits[answers].argmax(-1) == targets[answers]).float()
        text = loop.weighted_loss(logits, targets, ((weight == 1) & ~answers).float())
    return loss, right.mean().item() if len(right) else float("nan"), text.item()


def train(args) -> None:
    torch.set_num_threads(args.threads)
    out = Path(args.output)
    tokenizer = Tokenizer.load(out / "tokenizer.json")
    arrays, valid = data.load(tokenizer, Path(args.data), Path(args.work) / "tokens")
    rng, valid_rng = np.random.default_rng(args.seed), np.random.default_rng(args.seed + 1)
    texts, lookups = data.Slices(arrays, rng), Lookups(tokenizer, rng)
    generator = torch.Generator().manual_seed(args.seed)
    model = Llama(DEMO)
    initialise(model, generator)
    plant_matching(model, generator)
    model.to(args.device)

    def step_loss(step: int):
        length, rows = ((255, 8), (255, 8), (511, 4))[step % 3]
        batch = [lookups.window(texts.take(length)) if i % 2 else plain(texts.take(length)) for i in range(rows)]
        loss, accuracy, text = score(model, *batch_of(batch, args.device))
        return loss, {"answers": accuracy, "text": text}, rows * (length + 1)

    def report(step: int) -> dict:
        model.eval()
        numbers = validate(model, tokenizer, valid, valid_rng, args.device)
        model.train()
        export.base(model, out)
        return numbers

    loop.run(model, step_loss, steps=args.steps, minutes=args.minutes, peak=args.rate, warmup=60, decay=0.05,
             folder=Path(args.work) / "base", rngs=[rng, valid_rng], every=args.every, report=report)


@torch.no_grad()
def validate(model: Llama, tokenizer: Tokenizer, valid: dict[str, np.ndarray], rng: np.random.Generator,
             device: str, batches: int = 3) -> dict[str, float]:
    """Text loss by kind (nats a token) and look-up accuracy, both in full windows of unseen text."""
    out = {}
    for kind, array in valid.items():
        texts = data.Slices({kind: array}, rng)
        losses = [score(model, *batch_of([plain(texts.take(511)) for _ in range(8)], device))[2] for _ in range(batches)]
        out[f"valid_{kind}"] = float(np.mean(losses))
    texts, lookups = data.Slices(valid, rng), Lookups(tokenizer, rng)
    hits = [score(model, *batch_of([lookups.window(texts.take(511)) for _ in range(8)], device))[1]
            for _ in range(batches)]
    out["valid_lookup"] = float(np.mean(hits))
    return out
