"""What all trainings share: learning rate, precision, accumulation, checkpoints, metrics, progress, estimates."""
from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from . import parallel


class Remembered(Protocol):
    """Something besides weights and random numbers that a resumed training needs as it was."""

    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


@dataclass
class Plan:
    """How long and how a model is trained; ends after `steps` or `minutes`, whatever is over first."""

    folder: Path  # of checkpoint.pt and metrics.jsonl
    steps: int
    minutes: float = math.inf  # over all calls
    peak: float = 1e-3
    warmup: int = 30
    decay: float = 0.01
    accumulate: int = 1  # batches a step
    precision: str = "float32"  # or "bfloat16": autocast, the weights stay float32
    every: int = 100  # steps between reports (validation, export)
    save_every: float = 2.0  # minutes between checkpoints
    until: float = math.inf  # time.time() at which this call has to stop; the training is then continued by the next one
    dry_run: bool = False
    notes: dict = field(default_factory=dict)  # into the first line of metrics


def rate(step: int, done: float, peak: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine of the share that is done, down to 3 % of the peak."""
    falling = peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
    return min(1.0, (step + 1) / max(1, warmup)) * falling


def optimizer(parameters: Iterable[nn.Parameter], peak: float, decay: float) -> torch.optim.AdamW:
    """AdamW; vectors (norms, biases) are not decayed."""
    named = list(parameters)
    groups = [
        {"params": [p for p in named if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in named if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), eps=1e-8)


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of [N,vocab] against [N], token by token."""
    return nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """Mean of [N], each counted `weight` times."""
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


def save(path: Path, state: dict) -> None:
    """All or nothing: a checkpoint that is cut off while being written leaves the one before."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def autocast(device: str, precision: str):
    kind = device.split(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()


def show(row: dict) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())


def bar(done: float, width: int = 24) -> str:
    return f"[{'#' * int(done * width):<{width}}] {100 * done:3.0f} %"


class Metrics:
    """metrics.jsonl and the lines on the screen, of the first process only. Lines behind a checkpoint that is resumed
    are dropped: those steps are done again."""

    def __init__(self, path: Path, begin: int, quiet: bool):
        self.quiet = quiet
        if quiet:
            return
        if path.exists():
            whole = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in whole if json.loads(line).get("step", 0) <= begin]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.file = open(path, "a", encoding="utf-8")

    def write(self, row: dict, done: float) -> None:
        if self.quiet:
            return
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        print(bar(done), show(row), flush=True)

    def close(self) -> None:
        if not self.quiet:
            self.file.close()


def memory(device: str) -> float:
    """Most bytes used so far, in GB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def estimate(plan: Plan, model: nn.Module, seconds: float, tokens: int, device: str) -> None:
    """What a dry run prints: two real steps, then arithmetic."""
    every = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    steps = min(plan.steps, plan.minutes * 60 / seconds)
    print(f"parameters {every / 1e6:.2f} M, trained {trained / 1e6:.2f} M: weights {4 * every / 1e9:.3f} GB, "
          f"gradients and moments {12 * trained / 1e9:.3f} GB, checkpoint {(4 * every + 8 * trained) / 1e9:.3f} GB")
    print(f"memory so far, most: {memory(device):.2f} GB")
    print(f"a step: {seconds:.2f} s, {tokens} tokens, {tokens / seconds:.0f} tokens/s")
    print(f"all {steps:.0f} steps: {steps * seconds / 60:.1f} minutes, {steps * tokens / 1e6:.1f} M tokens", flush=True)


def run(model: nn.Module, draw_loss: Callable[[int], tuple[Tensor, dict[str, float], int]], plan: Plan, *,
        rngs: list[np.random.Generator], report: Callable[[int], dict], device: str = "cpu",
        remembered: list[Remembered] = ()) -> bool:
    """Trains `model`; continues from the checkpoint in the plan's folder. True when the training is over, false when
    `until` came first.

    `draw_loss(step)` gives a batch's loss, numbers to log and the count of tokens. `report(step)` gives numbers of a
    validation; it exports too, and is called by the first process only.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    checkpoint = plan.folder / "checkpoint.pt"
    trained = [p for p in model.parameters() if p.requires_grad]
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    adam = optimizer(trained, plan.peak, plan.decay)
    begin, seen, spent, over = 0, 0, 0.0, False
    if checkpoint.exists() and not plan.dry_run:
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
        model.load_state_dict(state["model"], strict=False)
        adam.load_state_dict(state["adam"])
        begin, seen, spent, over = state["step"], state["tokens"], state["minutes"], state["over"]
        own = state["processes"][parallel.rank() % len(state["processes"])]
        for rng, kept in zip(rngs, own["rngs"]):
            rng.bit_generator.state = kept
        torch.set_rng_state(own["torch"])
        for thing, kept in zip(remembered, own["remembered"]):
            thing.load_state_dict(kept)
    if over and max(begin / plan.steps, spent / plan.minutes) >= 1:  # otherwise more was asked for than last time
        return True
    first = parallel.rank() == 0
    metrics = Metrics(plan.folder / "metrics.jsonl", begin, not first or plan.dry_run)
    if begin == 0 and plan.notes:
        metrics.write({"step": 0, **plan.notes}, 0.0)
    started = since = saved = time.time()
    recent_tokens, step, done = 0, begin, 0.0
    minutes = lambda: spent + (time.time() - started) / 60

    def keep(is_over: bool) -> None:
        own = {"rngs": [r.bit_generator.state for r in rngs], "torch": torch.get_rng_state(),
               "remembered": [thing.state_dict() for thing in remembered]}
        processes = parallel.gather(own)
        if first:
            weights = {n: p for n, p in model.state_dict().items() if n in names}  # the frozen ones are the base's
            save(checkpoint, {"model": weights, "adam": adam.state_dict(), "step": step, "tokens": seen,
                              "minutes": minutes(), "over": is_over, "processes": processes})
        parallel.wait()

    with contextlib.closing(metrics):
        while done < 1:
            begun = time.time()
            done = min(1.0, parallel.agree(max((step + 1) / plan.steps, minutes() / plan.minutes)))
            for group in adam.param_groups:
                group["lr"] = rate(step, done, plan.peak, plan.warmup)
            adam.zero_grad(set_to_none=True)
            total, tokens, numbers = 0.0, 0, {}
            for _ in range(plan.accumulate):
                with autocast(device, plan.precision):
                    loss, numbers, count = draw_loss(step)
                (loss / plan.accumulate).backward()
                total, tokens = total + loss.detach() / plan.accumulate, tokens + count * parallel.world()
            parallel.average(trained)
            nn.utils.clip_grad_norm_(trained, 1.0)
            adam.step()
            step, seen, recent_tokens = step + 1, seen + tokens, recent_tokens + tokens
            if plan.dry_run:
                if step == begin + 2:  # the first one warms up
                    float(total)
                    estimate(plan, model, time.time() - begun, tokens, device)
                    return True
                continue
            stop = parallel.agree(float(time.time() > plan.until)) > 0
            due = parallel.agree(float(time.time() - saved > 60 * plan.save_every)) > 0
            due = due or stop or step % plan.every == 0 or done == 1
            if due or step % 20 == 0 or step == begin + 1:
                loss, now = float(total), time.time()
                if not math.isfinite(loss):
                    raise ArithmeticError(f"the loss of step {step} is {loss}; the last checkpoint is in {plan.folder}")
                metrics.write({"step": step, "tokens": seen, "minutes": minutes(), "loss": loss, **numbers,
                               "tokens_per_second": recent_tokens / (now - since), "rate": adam.param_groups[0]["lr"]}, done)
                recent_tokens, since = 0, now
            if step % plan.every == 0 or done == 1:
                if first:
                    metrics.write({"step": step, **report(step)}, done)
                recent_tokens, since = 0, time.time()
            if due:
                keep(done == 1)
                saved = time.time()
            if stop and done < 1:
                break
    return done == 1
