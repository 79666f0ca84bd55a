"""Reading text files and turning them, once, into memory-mapped arrays of token ids.

A folder holds `NAME-train.jsonl` and perhaps `NAME-valid.jsonl`, plain, .gz or .xz, one `{"text": ..}` a line. Every
NAME is a kind. Without a validation file every 20th document is kept out of training.
"""
from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import multiprocessing
import os
from pathlib import Path
from typing import Iterable, Iterator, Protocol

import numpy as np

OPENERS = {".jsonl": open, ".gz": gzip.open, ".xz": lzma.open}
BATCH = 500_000  # characters that one worker encodes at a time


class Encoder(Protocol):
    """What is asked of a tokenizer. `begin`: the id that starts every text, if there is one."""

    begin: int | None

    def __len__(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def fingerprint(self) -> str: ...


def documents(path: Path) -> Iterator[str]:
    with OPENERS[path.suffix](path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)["text"]


def split(texts: Iterable[str], held_out: bool | None) -> Iterator[str]:
    """`held_out` true takes every 20th document only, false all others, None everything."""
    return (t for i, t in enumerate(texts) if held_out is None or (i % 20 == 0) == held_out)


def sample_texts(path: Path, megabytes: float, piece: int = 40_000, held_out: bool | None = None) -> list[str]:
    """Pieces of at most `piece` characters from as many documents as fit into the budget.

    Long documents give their pieces round by round, so that the mix is wide even for a small budget.
    """
    texts = list(split(documents(path), held_out))
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


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_tokenizer: Encoder  # of a worker


def _encode(texts: list[str]) -> np.ndarray:
    """The ids of some texts, joined by a blank line."""
    joint, ids = _tokenizer.encode("\n\n"), []
    for text in texts:
        ids += _tokenizer.encode(text) + joint
    return np.asarray(ids, dtype=id_type(_tokenizer))


def _start(tokenizer: Encoder) -> None:
    global _tokenizer
    _tokenizer = tokenizer


def id_type(tokenizer: Encoder) -> type:
    return np.uint16 if len(tokenizer) <= 65536 else np.uint32


def token_array(tokenizer: Encoder, texts: Iterable[str], cache: Path, workers: int = 0) -> np.ndarray:
    """All texts as one memory-mapped array; the file `cache` is written once, by `workers` processes (0: all cores)."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name(f"{cache.name}.{os.getpid()}.partial")
        with open(partial, "wb") as out:
            count = workers or os.cpu_count() or 1
            if count == 1:
                _start(tokenizer)
                for batch in batches(texts):
                    out.write(_encode(batch).tobytes())
            else:
                with multiprocessing.Pool(count, _start, (tokenizer,)) as pool:
                    for ids in pool.imap(_encode, batches(texts)):
                        out.write(ids.tobytes())
        partial.replace(cache)
    if not cache.stat().st_size:
        raise ValueError(f"{cache} is empty: its source has no text for this part")
    return np.memmap(cache, dtype=id_type(tokenizer), mode="r")


def files_of(folder: Path, part: str) -> dict[str, Path]:
    """{kind: file} of NAME-train or NAME-valid."""
    found = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(path.suffix if path.suffix != ".jsonl" else "").removesuffix(".jsonl")
        if path.suffix in OPENERS and ".jsonl" in path.name and name.endswith(f"-{part}"):
            found[name.removesuffix(f"-{part}")] = path
    return found


def load(tokenizer: Encoder, folder: Path, cache: Path, limit: float = 0, workers: int = 0,
         ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Training and validation tokens by kind; at most `limit` million characters of every kind (0: all of it), and of
    validation a tenth of that, 2 at most."""
    train, valid = {}, {}
    held_out = files_of(folder, "valid")
    files = files_of(folder, "train")
    if not files:
        raise FileNotFoundError(f"{folder} has no *-train.jsonl, .jsonl.gz or .jsonl.xz")
    for kind, path in files.items():
        own = held_out.get(kind)

        def tokens(source: Path, megabytes: float, keep: bool | None, name: str) -> np.ndarray:
            key = f"{source.name} {source.stat().st_size} {tokenizer.fingerprint()} {megabytes} {keep}"
            file = cache / f"{kind}-{name}-{hashlib.sha1(key.encode()).hexdigest()[:12]}.bin"
            texts = sample_texts(source, megabytes, held_out=keep) if megabytes and not file.exists() else split(documents(source), keep)
            return token_array(tokenizer, texts, file, workers)

        train[kind] = tokens(path, limit, None if own else False, "train")
        valid[kind] = tokens(own or path, min(2.0, limit / 10) if limit else 2.0, None if own else True, "valid")
    return train, valid


class Slices:
    """Random slices of the kinds, each kind in proportion to its size (kinds too short for a slice are passed over)."""

    def __init__(self, arrays: dict[str, np.ndarray], rng: np.random.Generator):
        self.arrays, self.rng = list(arrays.values()), rng
        self.sizes = np.array([len(a) for a in self.arrays], dtype=float)

    def take(self, length: int) -> np.ndarray:
        sizes = np.where(self.sizes > length, self.sizes, 0)
        if not sizes.sum():
            raise ValueError(f"no kind of text has more than {length} tokens")
        array = self.arrays[self.rng.choice(len(self.arrays), p=sizes / sizes.sum())]
        start = self.rng.integers(0, len(array) - length)
        return array[start : start + length].astype(np.int64)
