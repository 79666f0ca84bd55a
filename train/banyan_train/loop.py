"""What both trainings share: learning rate, checkpoints, metrics."""
from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn


def rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 5 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def optimizer(parameters: Iterable[tuple[str, nn.Parameter]], peak: float, decay: float) -> torch.optim.AdamW:
    """AdamW; vectors (norms) are not decayed."""
    named = [p for _, p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in named if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in named if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), eps=1e-8)


def weighted_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Mean cross-entropy of [N,vocab] against [N], each token counted `weight` times."""
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


def save(path: Path, state: dict) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def run(
    model: nn.Module,
    step_loss: Callable[[int], tuple[Tensor, dict[str, float], int]],
    *,
    steps: int,
    peak: float,
    warmup: int,
    decay: float,
    folder: Path,
    rngs: list[np.random.Generator],
    every: int,
    report: Callable[[int], dict],
) -> None:
    """Trains `model`; continues from `folder`/checkpoint.pt if it is there.

    `step_loss(step)` gives the loss, numbers to log and the count of tokens; `report(step)` is called every
    `every` steps (validation, early export).
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    adam = optimizer(model.named_parameters(), peak, decay)
    begin, seen = 0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu")
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        begin, seen = state["step"], state["tokens"]
        for rng, kept in zip(rngs, state["rngs"]):
            rng.bit_generator.state = kept
    started, window_tokens, window_start = time.time(), 0, time.time()
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as log:

        def write(row: dict) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)

        for step in range(begin, steps):
            for group in adam.param_groups:
                group["lr"] = rate(step, steps, peak, warmup)
            loss, numbers, tokens = step_loss(step)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
            adam.step()
            seen += tokens
            window_tokens += tokens
            if step % 20 == 19 or step == begin:
                now = time.time()
                write({"step": step + 1, "tokens": seen, "minutes": (now - started) / 60, "loss": loss.item(),
                       **numbers, "tokens_per_second": window_tokens / (now - window_start)})
                window_tokens, window_start = 0, now
            if (step + 1) % every == 0 or step + 1 == steps:
                write({"step": step + 1, **report(step + 1)})
                save(checkpoint, {"model": model.state_dict(), "adam": adam.state_dict(), "step": step + 1,
                                  "tokens": seen, "rngs": [r.bit_generator.state for r in rngs]})
                window_tokens, window_start = 0, time.time()
