"""Reading the text files and turning them into flat arrays of token ids."""
from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Iterator

import numpy as np

from .bpe import Tokenizer


def documents(path: Path) -> Iterator[dict]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def sample_texts(path: Path, megabytes: float, piece: int = 40_000, held_out: bool | None = None) -> list[str]:
    """Pieces of at most `piece` characters from as many documents as fit into the budget.

    Long documents give their pieces round by round, so that the mix is wide even for a small budget.
    `held_out` true takes every 20th document only, false all others, None everything.
    """
    texts = [d["text"] for i, d in enumerate(documents(path)) if held_out is None or (i % 20 == 0) == held_out]
    out, total, start = [], 0, 0
    while total < megabytes * 1e6:
        before = total
        for text in texts:
            part = text[start : start + piece]
            if part and total < megabytes * 1e6:
                out.append(part)
                total += len(part)
        if total == before:
            break
        start += piece
    return out


def token_array(tokenizer: Tokenizer, texts: list[str], cache: Path) -> np.ndarray:
    """All texts as one uint16 array, joined by a blank line; kept in `cache`."""
    if cache.exists():
        return np.load(cache)
    joint = tokenizer.encode("\n\n")
    ids: list[int] = []
    for text in texts:
        ids += tokenizer.encode(text) + joint
    array = np.asarray(ids, dtype=np.uint16)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(cache.name + ".partial.npy")
    np.save(partial, array)
    partial.replace(cache)
    return array


# file, megabytes for training, megabytes for validation
MIX = [("books", 14.0, 1.5), ("docs", 14.0, 0.7), ("code", 5.0, 0.5)]


def load(tokenizer: Tokenizer, folder: Path, cache: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and validation tokens by kind. Documentation has no validation file: every 20th document is kept."""
    train, valid = {}, {}
    for kind, megabytes, small in MIX:
        first = folder / f"{kind}-train.jsonl.xz"
        second = folder / f"{kind}-valid.jsonl.xz"
        split = second.exists()

        def tokens(path: Path, size: float, held_out: bool | None, name: str) -> np.ndarray:
            file = cache / f"{kind}-{name}-{size}-{len(tokenizer)}.npy"
            return np.load(file) if file.exists() else token_array(
                tokenizer, sample_texts(path, size, held_out=held_out), file)

        train[kind] = tokens(first, megabytes, None if split else False, "train")
        valid[kind] = tokens(second if split else first, small, None if split else True, "valid")
    return train, valid


class Slices:
    """Random slices of the kinds, each kind in proportion to its size."""

    def __init__(self, arrays: dict[str, np.ndarray], rng: np.random.Generator):
        self.arrays, self.rng = list(arrays.values()), rng
        sizes = np.array([len(a) for a in self.arrays], dtype=float)
        self.share = sizes / sizes.sum()

    def take(self, length: int) -> np.ndarray:
        array = self.arrays[self.rng.choice(len(self.arrays), p=self.share)]
        start = self.rng.integers(0, len(array) - length)
        return array[start : start + length].astype(np.int64)
