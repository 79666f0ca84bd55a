"""Measures candidate projections: planted facts by number of chunks, and text; trained against untrained.

Untrained means copies of the plain projections: every candidate is then its chunk's ordinary last token.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from . import bases, export, data, focus_windows, focusllm
from .focusllm import FocusLlama
from .synthetic import Lookups

ROWS = 192  # chunk passes at a time, to save memory


def batches(count: int, rows_each: int) -> list[range]:
    step = max(1, ROWS // rows_each)
    return [range(i, min(i + step, count)) for i in range(0, count, step)]


def planted(look: Lookups, texts: data.Slices, n: int, size: int, count: int, canonical: bool,
            rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A document [n,size] with `count` facts, at most two a chunk and none across a border; (key, value) of each."""
    keys, values = look.pairs(count)
    ids = np.stack([texts.take(size) for _ in range(n)])
    halves = rng.choice(2 * n, count, replace=False)
    asked = []
    for key, value, half in zip(keys, values, halves):
        part = look.fact(key, value, canonical)
        at = half % 2 * (size // 2) + int(rng.integers(0, size // 2 - len(part) + 1))
        ids[half // 2, at : at + len(part)] = part
        asked.append((int(key), int(value)))
    return ids, asked


def answers(models: dict[str, FocusLlama], pool: focusllm.Past, n: int, size: int,
            texts: list[list[int]], begin: int | None) -> dict[str, torch.Tensor]:
    """Logits [N,vocab] at the end of the local texts behind all n chunks, of every model, and `without` any chunk."""
    base = next(iter(models.values()))  # all models share it
    windows = [focusllm.with_bos(list(t), begin) for t in texts]
    asked = focus_windows.ask(base, pool, [list(range(n))] * len(texts), focus_windows.queries_of(texts, size, begin))
    out = {name: focus_windows.last_logits(m, focus_windows.gather(m, asked), windows) for name, m in models.items()}
    return {**out, "without": focus_windows.last_logits(base, None, windows)}


@torch.no_grad()
def lookups(models: dict[str, FocusLlama], tokenizer: data.Encoder, valid: dict[str, np.ndarray], n: int, size: int,
            documents: int, facts: int, canonical: bool, filler: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of questions whose first greedy token is the value; every model sees the same documents. `without`: no chunks.

    `filler` tokens of other text stand before the question in the local window.
    """
    look, texts, begin = Lookups(tokenizer, rng), data.Slices(valid, rng), tokenizer.begin
    hits: dict[str, list[bool]] = {name: [] for name in [*models, "without"]}
    for _ in range(documents):
        ids, asked = planted(look, texts, n, size, min(facts, 2 * n), canonical, rng)
        windows = [[*(texts.take(filler) if filler else []), *look.question(key, canonical)] for key, _ in asked]
        pool = focus_windows.read_chunks(next(iter(models.values())), list(ids))
        for part in batches(len(asked), n):
            values = torch.tensor([asked[i][1] for i in part])
            some = [windows[i] for i in part]
            for name, logits in answers(models, pool, n, size, some, begin).items():
                hits[name] += (logits.argmax(-1).cpu() == values).tolist()
    return {**{name: float(np.mean(h)) for name, h in hits.items()}, "questions": len(hits["without"])}


@torch.no_grad()
def text(models: dict[str, FocusLlama], valid: dict[str, np.ndarray], n: int, size: int, documents: int, windows: int,
         rng: np.random.Generator, begin: int | None, shortest: int = 32, longest: int = 128) -> dict[str, float]:
    """Mean loss of the token behind a window of unseen text, and how candidates of the n chunks before it change it.

    Several windows a document: all begin where the chunks end, with different lengths.
    """
    texts = data.Slices(valid, rng)
    change: dict[str, list[float]] = {name: [] for name in models}
    plain: list[float] = []
    for _ in range(documents):
        ids = texts.take(n * size + longest + 1)
        rest = ids[n * size :]
        ends = rng.choice(np.arange(shortest, longest + 1), windows, replace=False)
        pool = focus_windows.read_chunks(next(iter(models.values())), list(ids[: n * size].reshape(n, size)))
        for part in batches(windows, n):
            some = [list(rest[: ends[i]]) for i in part]
            targets = torch.from_numpy(rest[ends[list(part)]])
            losses = {name: F.cross_entropy(logits.cpu(), targets, reduction="none")
                      for name, logits in answers(models, pool, n, size, some, begin).items()}
            plain += losses["without"].tolist()
            for name in models:
                change[name] += (losses[name] - losses["without"]).tolist()
    out = {"without": float(np.mean(plain)), "tokens": len(plain)}
    for name, c in change.items():  # the windows of a document are not independent: the error is over documents
        means = np.reshape(c, (documents, windows)).mean(1)
        out[name], out[name + "_error"] = float(np.mean(c)), float(np.std(means) / max(1, documents - 1) ** 0.5)
    return out


def show(values: dict[str, float]) -> str:
    return " ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())


def main(args) -> dict:
    torch.set_num_threads(args.threads)
    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    models = {"trained": export.load_focus(base, Path(args.output)),
              "untrained": focusllm.from_base(base.config, base.state).eval()}
    models = {name: model.to(args.device) for name, model in models.items()}
    _, valid = bases.texts_of(base, args)
    size, result = args.chunk_size, {}
    for n in map(int, args.chunks.split(",")):
        documents = max(args.documents // 2, args.documents * args.facts // max(args.facts, n))
        documents = documents * max(1, args.facts // min(args.facts, 2 * n))  # as many questions behind few chunks
        row: dict = {}
        for form, canonical, filler in (("plain", True, 0), ("mixed", False, 0), ("filler", False, 32)):
            rng = np.random.default_rng([args.seed, n, filler, canonical])
            row[form] = lookups(models, base.tokenizer, valid, n, size, documents, args.facts, canonical, filler, rng)
            print(f"chunks={n} forms={form} {show(row[form])}", flush=True)
        if n <= args.text_chunks:
            rng = np.random.default_rng([args.seed, n])
            row["text"] = text(models, valid, n, size, 8 * args.documents, 4, rng, base.tokenizer.begin)
            print(f"chunks={n} text {show(row['text'])}", flush=True)
        result[n] = row
    export.write_json(Path(args.output) / "eval.json", {"chunk_size": size, "chunks": result})
    return result
