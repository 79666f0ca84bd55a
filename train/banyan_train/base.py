"""Training of a base: first the circuit of looking up, on short rows, then text mixed with look-ups in full windows.

A model of a few million parameters that only reads text does not learn within minutes to match a key. `warm` teaches
it with rows that hold nothing else: random ids said twice, of few different ones at first, and few facts with many
questions; rows grow when nine of ten answers are right. If its time does not get there, `plant_matching` sets the circuit
by hand; the metrics say which of both it was.
"""
from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import data, export, loop, parallel, tensors
from .bpe import Tokenizer
from .config import SIZES
from .llama import Llama, initialise, plant_matching
from .synthetic import KINDS, Lookups, Row



@dataclass(frozen=True)
class Phase:
    """Rows of `warm`. An induction head forms sooner over few ids, and a look-up only after it."""

    length: int  # tokens of a row
    facts: int
    asks: int  # questions a fact
    ids: int = 0  # different ids of the rows that are said twice; 0: the whole vocabulary
    good: float = 0.9  # share of right answers that ends it; with `ids` the second saying counts as answers too


PHASES = [Phase(64, 3, 3, 64, 0.7), Phase(64, 3, 3, 256, 0.75), Phase(64, 3, 3, 1024, 0.75), Phase(64, 3, 3), Phase(96, 4, 3),
          Phase(128, 6, 2), Phase(256, 10, 2), Phase(512, 16, 1)]
LOOKUPS = 3  # the first phase whose answers are those of look-ups only
SHARES = (0.25, 0.5, 0.15, 0.1)  # of KINDS, with `--kinds all`: digit after digit takes longer to learn than one word


def plain(text: np.ndarray) -> Row:
    return Row(text, np.ones(len(text), np.float32), np.zeros(len(text), bool))


def batch_of(rows: list[Row], device: str, begin: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """ids [B,T], weight [B,T], answers [B,T]; every row begins with the begin token."""

    def stack(arrays: list[np.ndarray], first) -> Tensor:
        return torch.from_numpy(np.stack([np.concatenate([[first], a]) for a in arrays])).to(device)

    return (stack([r.ids for r in rows], begin or 0).long(), stack([r.weight for r in rows], 0).float(),
            stack([r.answers for r in rows], False).bool())


def score(model: Llama, ids: Tensor, weight: Tensor, answers: Tensor) -> tuple[Tensor, float, float]:
    """Weighted loss, share of right answer tokens, and mean loss of the other scored tokens."""
    logits = model(ids)[:, :-1].flatten(0, 1)
    targets, weight, answers = ids[:, 1:].flatten(), weight[:, 1:].flatten(), answers[:, 1:].flatten()
    losses = loop.token_losses(logits, targets)
    with torch.no_grad():
        right = (logits[answers].argmax(-1) == targets[answers]).float()
        text = loop.weighted_mean(losses, ((weight == 1) & ~answers).float())
    return loop.weighted_mean(losses, weight), right.mean().item() if len(right) else float("nan"), text.item()


class Curriculum:
    """Which rows `warm` draws; goes on to longer ones when the last 20 batches were good."""

    def __init__(self, texts: data.Slices, lookups: Lookups, window: int, rng: np.random.Generator):
        self.texts, self.look, self.rng = texts, lookups, rng
        self.phases = [p for p in PHASES if p.length <= window // 2]
        self.phase, self.recent = 0, deque(maxlen=20)

    def rows(self, tokens: int) -> list[Row]:
        """About so many tokens: rows said twice (most at first, later a third), look-ups, and some text."""
        p = self.phases[self.phase]
        twice, other = (0.6, 0.95) if p.ids else (0.33, 0.85)
        rows = []
        for _ in range(max(2, tokens // (p.length + 1))):
            kind = self.rng.random()
            if kind < twice:
                rows.append(self.look.repeated(p.length, p.ids))
            elif kind < other:
                rows.append(self.look.window(self.texts.take(p.length), 5.0, p.facts, p.asks))
            else:
                rows.append(plain(self.texts.take(p.length)))
        return rows

    @property
    def is_good(self) -> bool:
        return len(self.recent) == self.recent.maxlen and bool(np.mean(self.recent) >= self.phases[self.phase].good)

    def learned(self, accuracy: float) -> None:
        if not np.isnan(accuracy):
            self.recent.append(accuracy)
        if self.is_good and self.phase < len(self.phases) - 1:
            self.phase += 1
            self.recent.clear()

    @property
    def passed(self) -> bool:
        """The shortest look-ups were learned at least."""
        return self.phase > LOOKUPS or (self.phase == LOOKUPS and self.is_good)

    def state_dict(self) -> dict:
        return {"phase": self.phase, "recent": list(self.recent)}

    def load_state_dict(self, state: dict) -> None:
        self.phase = state["phase"]
        self.recent.clear()
        self.recent.extend(state["recent"])


def fresh(size: str, seed: int, vocabulary: int, planted: bool) -> Llama:
    config = SIZES[size]
    if vocabulary > config.vocab_size:
        raise SystemExit(f"the tokenizer has {vocabulary} tokens, the size {size!r} only {config.vocab_size}")
    generator = torch.Generator().manual_seed(seed)
    model = Llama(config)
    initialise(model, generator, 0.05 if config.hidden_size <= 256 else 0.02)
    if planted:
        plant_matching(model, generator)
    return model


class Setup:
    """What both stages need: tokenizer, texts, samples."""

    def __init__(self, args, stage: str):
        torch.set_num_threads(args.threads)
        self.args, self.out = args, Path(args.output)
        self.device = parallel.start(args.device)
        self.tokenizer = Tokenizer.load(self.out / "tokenizer.json")
        self.arrays, self.valid = data.load(self.tokenizer, Path(args.data), Path(args.work) / "tokens", args.megabytes, args.workers)
        self.rng = np.random.default_rng([args.seed, parallel.rank(), len(stage)])
        self.texts = data.Slices(self.arrays, self.rng)
        self.folder = Path(args.work) / f"{args.name}-{stage}"

    def plan(self, **changes) -> loop.Plan:
        a = self.args
        return loop.Plan(**{**dict(folder=self.folder, steps=a.steps, minutes=a.minutes, peak=a.rate, warmup=60, decay=0.05,
                                   accumulate=a.accumulate, precision=a.precision, every=a.every, until=a.until,
                                   save_every=a.save_every, dry_run=a.dry_run), **changes})


def warm(args) -> bool:
    """Teaches the circuit on short rows. True when it is over (see `loop.run`)."""
    s = Setup(args, "warm")
    if not args.warm_steps and not args.warm_minutes:
        return True
    model = fresh(args.size, args.seed, len(s.tokenizer), False).to(s.device)
    curriculum = Curriculum(s.texts, Lookups(s.tokenizer, s.rng), model.config.max_position_embeddings, s.rng)

    def draw(step: int):
        rows = curriculum.rows(args.warm_batch or args.batch)
        ids, weight, answers = batch_of(rows, s.device, s.tokenizer.begin)
        loss, accuracy, text = score(model, ids, weight, answers)
        curriculum.learned(accuracy)
        return loss, {"answers": accuracy, "text": text, "phase": curriculum.phase}, ids.numel()

    plan = s.plan(steps=args.warm_steps or 10**9, minutes=args.warm_minutes or float("inf"))
    over = loop.run(model, draw, plan, rngs=[s.rng], report=lambda step: {"passed": curriculum.passed}, device=s.device,
                    remembered=[curriculum])
    if over and not args.dry_run and parallel.rank() == 0:
        export.write_json(s.folder / "result.json", {"passed": bool(curriculum.passed), "phase": curriculum.phase})
        tensors.write(s.folder / "model.safetensors", {k: v.detach().cpu() for k, v in model.state_dict().items()})
    parallel.wait()
    return over


def start(args, s: Setup) -> tuple[Llama, str]:
    """The weights that text training begins with, and where they come from."""
    folder = Path(args.work) / f"{args.name}-warm"
    warmed = folder / "result.json"
    if not args.plant and warmed.exists() and json.loads(warmed.read_text())["passed"]:
        model = fresh(args.size, args.seed, len(s.tokenizer), False)
        model.load_state_dict(tensors.read(folder / "model.safetensors"))
        return model, "learned from nothing"
    return fresh(args.size, args.seed, len(s.tokenizer), True), "set by hand in the initial weights"


def text(args) -> bool:
    """Text and look-ups, half and half, in windows of half and full length."""
    s = Setup(args, "text")
    model, circuit = start(args, s)
    model.to(s.device).checkpointing = args.checkpointing
    window = model.config.max_position_embeddings
    kinds = dict(zip(KINDS, SHARES)) if args.kinds == "all" else None
    lookups = Lookups(s.tokenizer, s.rng, kinds)
    valid_rng = np.random.default_rng(args.seed + 1)

    def draw(step: int):
        length = (window // 2 - 1, window // 2 - 1, window - 1)[step % 3]
        count = max(1, args.batch // (length + 1))
        rows = [plain(s.texts.take(length)) if (i + step) % 2 else lookups.window(s.texts.take(length)) for i in range(count)]
        loss, accuracy, text = score(model, *batch_of(rows, s.device, s.tokenizer.begin))
        return loss, {"answers": accuracy, "text": text}, count * (length + 1)

    def report(step: int) -> dict:
        model.eval()
        numbers = validate(model, s.tokenizer, s.valid, valid_rng, s.device)
        if kinds:
            numbers["valid_passkey"] = answered(model, s.tokenizer, s.valid, valid_rng, s.device, {"passkey": 1.0})
        model.train()
        export.base(model, s.out)
        export.write_json(s.out / "training.json", {"circuit": circuit, "step": step, **numbers})
        return numbers

    return loop.run(model, draw, s.plan(notes={"circuit": circuit}), rngs=[s.rng, valid_rng], report=report, device=s.device)


def train(args) -> bool:
    return warm(args) and text(args)


@torch.no_grad()
def validate(model: Llama, tokenizer: data.Encoder, valid: dict[str, np.ndarray], rng: np.random.Generator, device: str,
             batches: int = 3, rows: int = 8) -> dict[str, float]:
    """Text loss by kind (nats a token) and look-up accuracy, both in full windows of unseen text."""
    out, length = {}, model.config.max_position_embeddings - 1
    batch = lambda rows: batch_of(rows, device, tokenizer.begin)
    for kind, array in valid.items():
        if len(array) <= length:
            continue
        texts = data.Slices({kind: array}, rng)
        losses = [score(model, *batch([plain(texts.take(length)) for _ in range(rows)]))[2] for _ in range(batches)]
        out[f"valid_{kind}"] = float(np.mean(losses))
    out["valid_lookup"] = lookup_accuracy(model, tokenizer, valid, rng, device, batches, rows)
    return out


@torch.no_grad()
def lookup_accuracy(model: Llama, tokenizer: data.Encoder, valid: dict[str, np.ndarray], rng: np.random.Generator,
                    device: str, batches: int = 3, rows: int = 8) -> float:
    """Share of right answers in full windows: as many facts as training shows, every one asked once."""
    texts, lookups = data.Slices(valid, rng), Lookups(tokenizer, rng)
    length = min(model.config.max_position_embeddings, 4096) - 1
    return float(np.mean([score(model, *batch_of([lookups.window(texts.take(length)) for _ in range(rows)], device,
                                                 tokenizer.begin))[1] for _ in range(batches)]))


@torch.no_grad()
def answered(model: Llama, tokenizer: data.Encoder, valid: dict[str, np.ndarray], rng: np.random.Generator, device: str,
             kinds: dict[str, float], batches: int = 3, rows: int = 8) -> float:
    """Share of whole answers of these kinds that are right, token after token, in full windows."""
    texts, lookups = data.Slices(valid, rng), Lookups(tokenizer, rng, kinds)
    length, right = min(model.config.max_position_embeddings, 4096) - 1, []
    for _ in range(batches):
        ids, _, answers = batch_of([lookups.window(texts.take(length)) for _ in range(rows)], device, tokenizer.begin)
        wrong = (model(ids)[:, :-1].argmax(-1) != ids[:, 1:]) & answers[:, 1:]
        for row, failed in zip(answers.cpu().numpy(), wrong.cpu().numpy()):
            edges = np.flatnonzero(np.diff(row.astype(np.int8), append=0))  # every second one ends an answer
            right += [not failed[begin:end].any() for begin, end in zip(edges[::2], edges[1::2])]
    return float(np.mean(right))
