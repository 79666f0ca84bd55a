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


def rate(step: int, done: float, peak: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine of the share that is done, down to 3 % of the peak."""
    falling = peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
    return min(1.0, (step + 1) / warmup) * falling


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
    minutes: float,
    peak: float,
    warmup: int,
    decay: float,
    folder: Path,
    rngs: list[np.random.Generator],
    every: int,
    report: Callable[[int], dict],
) -> None:
    """Trains `model` for `steps` steps or `minutes`, whatever is over first; continues from `folder`/checkpoint.pt.

    `step_loss(step)` gives the loss, numbers to log and the count of tokens; `report(step)` is called every
    `every` steps (validation, early export).
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    adam = optimizer(model.named_parameters(), peak, decay)
    begin, seen, spent = 0, 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        begin, seen, spent = state["step"], state["tokens"], state["minutes"]
        for rng, kept in zip(rngs, state["rngs"]):
            rng.bit_generator.state = kept
    started, window_tokens, window_start = time.time(), 0, time.time()
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as log:

        def write(row: dict) -> None:
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)

        elapsed = lambda: spent + (time.time() - started) / 60
        step, done = begin, 0.0
        while done < 1:
            done = min(1.0, max((step + 1) / steps, elapsed() / minutes))
            for group in adam.param_groups:
                group["lr"] = rate(step, done, peak, warmup)
            loss, numbers, tokens = step_loss(step)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
            adam.step()
            seen += tokens
            window_tokens += tokens
            if step % 20 == 19 or step == begin:
                now = time.time()
                write({"step": step + 1, "tokens": seen, "minutes": elapsed(), "loss": loss.item(),
                       **numbers, "tokens_per_second": window_tokens / (now - window_start)})
                window_tokens, window_start = 0, now
            if (step + 1) % every == 0 or done == 1:
                write({"step": step + 1, **report(step + 1)})
                save(checkpoint, {"model": model.state_dict(), "adam": adam.state_dict(), "step": step + 1,
                                  "tokens": seen, "minutes": elapsed(), "rngs": [r.bit_generator.state for r in rngs]})
                window_tokens, window_start = 0, time.time()
            step += 1
