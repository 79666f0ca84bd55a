"""Training of candidate projections: the base stays as it is, q, k, v, o of the candidates start as copies.

Every step has one text with some windows, by the authors' two objectives, and one pool of chunks with windows that ask
for planted facts. Those chunks are kept for later steps (`Ring`), so that a window can stand behind many more of them
than are read in a step.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from . import bases, data, export, focus_sample, focus_windows, focusllm, loop, parallel
from .adapter import require_lookup
from .focus_sample import Sample
from .focusllm import FocusLlama
from .synthetic import Lookups

SIZES = [64, 128, 256, 512, 1024, 2048]  # the authors' chunk sizes; those up to half a window are drawn
CAP = 512  # tokens of a query at most


class Draws:
    """numpy's generator in the shape of Python's, so that a checkpoint can keep its state."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def randint(self, first: int, last: int) -> int:
        return int(self.rng.integers(first, last + 1))

    def choice(self, options):
        return options[int(self.rng.integers(len(options)))]

    def logarithmic(self, low: int, high: int) -> int:
        return int(np.exp(self.rng.uniform(np.log(low), np.log(high + 1))))


@dataclass
class Windows:
    """N windows over one pool: their chunks, local texts without BOS, targets [N] and the longest query."""

    pool: focusllm.Past
    documents: list[list[int]]
    texts: list[list[int]]
    targets: list[int]
    query: int
    read: int  # tokens of chunks that were read for it
    begin: int | None

    def losses(self, model: FocusLlama) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy [N] and whether the most likely token is right [N]."""
        logits = focus_windows.score(model, self.pool, self.documents, self.texts, self.query, self.begin)
        targets = torch.tensor(self.targets, device=logits.device)
        return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets

    def tokens(self) -> int:
        suffix = sum(len(d) * min(self.query, len(t)) for d, t in zip(self.documents, self.texts))
        return self.read + suffix + sum(map(len, self.texts))


class TextWindows:
    """The authors' samples, several of them over the same chunks. `grid` is their W: windows have 30 .. W-2 tokens."""

    def __init__(self, texts: data.Slices, draws: Draws, sizes: list[int], grid: int, longest: int, count: int,
                 begin: int | None):
        self.texts, self.draws, self.sizes, self.grid = texts, draws, sizes, grid
        self.longest, self.count, self.begin = longest, count, begin

    def siblings(self, first: Sample, objective: str, n: int) -> list[Sample]:
        """Other windows with the chunks of the first: anywhere (repetition), or from the same start (continuation)."""
        out = [first]
        while len(out) < self.count:
            if objective == "repetition":
                out.append(replace(focus_sample.draw(objective, n, self.grid, self.sizes, self.draws), chunk=first.chunk))
            else:
                room = self.grid - first.start % self.grid - 1
                out.append(replace(first, size=self.draws.randint(focus_sample.SHORTEST, room)))
        return out

    def draw(self, model: FocusLlama) -> Windows:
        n = self.draws.logarithmic(4 * self.grid, self.longest)
        ids = self.texts.take(n)
        objective = self.draws.choice(focus_sample.OBJECTIVES)
        first = focus_sample.draw(objective, n, self.grid, self.sizes, self.draws)
        samples = self.siblings(first, objective, n)
        pool = focus_windows.read_chunks(model, [ids[a:b] for a, b in first.chunks()])
        return Windows(pool, [list(range(len(first.chunks())))] * len(samples), [list(ids[s.start : s.target]) for s in samples],
                       [int(ids[s.target]) for s in samples], min(CAP, first.chunk), first.covered, self.begin)


class FactWindows:
    """Windows that end in a question; the fact is in one chunk of the document, at times in the window itself."""

    def __init__(self, texts: data.Slices, look: Lookups, draws: Draws, sizes: list[int], most: int, rows: int):
        self.texts, self.look, self.draws, self.rng = texts, look, draws, draws.rng
        self.sizes, self.limit, self.rows = sizes, most, rows
        self.most = min(2, most)
        self.recent: deque[bool] = deque(maxlen=100)
        self.rings = {size: focus_windows.Ring(most + 64) for size in sizes}

    def state_dict(self) -> dict:
        return {"most": self.most, "recent": list(self.recent)}

    def load_state_dict(self, state: dict) -> None:
        """The chunks of the ring are not kept: they are read again, from new samples."""
        self.most = min(state["most"], self.limit)
        self.recent.clear()
        self.recent.extend(state["recent"])

    def learned(self, right: list[bool]) -> None:
        """Takes the latest answers; documents may have twice as many chunks when 90 of the last 100 were right.

        With many chunks from the start there is little to follow: no candidate is read yet, and one in m is right.
        """
        self.recent.extend(right)
        if len(self.recent) == self.recent.maxlen and sum(self.recent) >= 90:
            self.most = min(2 * self.most, self.limit)
            self.recent.clear()

    def chunk(self, size: int) -> tuple[np.ndarray, dict[int, int]]:
        count = int(self.rng.choice(4, p=[0.3, 0.35, 0.2, 0.15])) if size > 64 else int(self.rng.integers(0, 3))
        keys, values = self.look.pairs(count)
        parts = [self.look.fact(k, v) for k, v in zip(keys, values)]
        room = size - sum(map(len, parts))
        return self.look.insert(self.texts.take(room), parts, 0, room)[0], dict(zip(keys.tolist(), values.tolist()))

    def window(self, ring: focus_windows.Ring, place: int, key: int, m: int, here: bool) -> tuple[list[int], list[int]]:
        """m chunks of the ring and the local text. Every other chunk is one that says nothing about the key."""
        others = ring.without(key)
        m = min(m, len(others))
        document = self.rng.choice(others, m, replace=False).tolist()
        value = ring.facts[place][key]
        if not here:
            document[int(self.rng.integers(m))] = place
        longest = max(16, min(100, 1600 // m))  # every chunk reads the query: long ones only behind few chunks
        filler = 0 if self.rng.random() < 0.5 and not here else int(self.rng.integers(1, longest))
        question = self.look.question(key)
        facts = [self.look.fact(key, value)] if here else []
        if filler > 30:  # facts about other keys in the local text itself
            facts += [self.look.fact(*pair) for pair in zip(*self.look.pairs(2)) if pair[0] != key]
        text = self.look.insert(self.texts.take(filler), facts, 0, filler)[0] if filler else []
        return document, [*map(int, text), *question]

    def draw(self, model: FocusLlama) -> Windows:
        size = self.sizes[-1] if self.rng.random() < 0.6 else self.draws.choice(self.sizes)
        ring = self.rings[size]
        askable: list[tuple[int, int]] = []
        while not askable:  # a few long chunks may hold no fact
            fresh = [self.chunk(size) for _ in range(2048 // size if ring.facts else 6144 // size)]
            places = ring.add(focus_windows.read_chunks(model, [c for c, _ in fresh]), [f for _, f in fresh])
            askable = [(place, key) for place in places for key in ring.facts[place]]
        documents, texts, targets, rows = [], [], [], 0
        for i in self.rng.permutation(len(askable))[:24]:
            place, key = askable[i]
            document, text = self.window(ring, place, key, self.draws.logarithmic(1, self.most), self.rng.random() < 0.08)
            if rows + len(document) > self.rows and documents:
                break
            rows += len(document)
            documents.append(document)
            texts.append(text)
            targets.append(ring.facts[place][key])
        return Windows(ring.past, documents, texts, targets, min(CAP, size), size * len(fresh), self.look.tokenizer.begin)


def train(args) -> bool:
    """True when the training is over (see `loop.run`)."""
    torch.set_num_threads(args.threads)
    device, out = parallel.start(args.device), Path(args.output)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    arrays, valid = bases.texts_of(base, args)
    if args.require_lookup and not args.dry_run:
        print(f"look-ups inside the window: {100 * require_lookup(base, valid, device):.1f} %", flush=True)
    rng = np.random.default_rng([args.seed, parallel.rank()])
    model = focusllm.from_base(base.config, base.state).to(device)
    model.checkpointing = args.checkpointing
    window, begin = model.config.max_position_embeddings, base.tokenizer.begin
    sizes = [s for s in SIZES if s <= window // 2]
    texts, draws = data.Slices(arrays, rng), Draws(rng)
    plain = TextWindows(texts, draws, sizes, window // 4, args.windows * window, args.scored, begin)  # room for the candidates
    facts = FactWindows(texts, Lookups(base.tokenizer, rng), draws, sizes, args.chunks_most, args.rows)
    hits: deque[tuple[int, bool]] = deque(maxlen=600)
    described = base.described()

    def draw(step: int):
        asked, read = facts.draw(model), plain.draw(model)
        answer, right = asked.losses(model)
        other, _ = read.losses(model)
        weight = args.answer_weight
        loss = (weight * answer.sum() + other.sum()) / (weight * len(answer) + len(other))
        facts.learned(right.tolist())
        hits.extend(zip(map(len, asked.documents), right.tolist()))
        share = lambda low, high: float(np.mean([r for m, r in hits if low <= m <= high] or [float("nan")]))
        return loss, {"most": facts.most, "answer": answer.mean().item(), "text": other.mean().item(), "upto4": share(1, 4),
                      "upto32": share(5, 32), "more": share(33, 10**9)}, asked.tokens() + read.tokens()

    def report(step: int) -> dict:
        export.focus(model, out, described, args.chunk_size, CAP)
        return {}

    plan = loop.Plan(folder=Path(args.work) / args.name, steps=args.steps, minutes=args.minutes, peak=args.rate, warmup=30,
                     decay=0.01, accumulate=args.accumulate, precision=args.precision, every=args.every, until=args.until,
                     save_every=args.save_every, dry_run=args.dry_run)
    return loop.run(model, draw, plan, rngs=[rng], report=report, device=device, remembered=[facts])
