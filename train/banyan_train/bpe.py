"""A small byte-level BPE: trainer, encoder and Hugging Face `tokenizer.json` writer.

The text is cut by the GPT-2 pattern, every piece becomes bytes written as printable characters, and the
merges join neighbours in the order in which they were learned.
"""
from __future__ import annotations

import hashlib
import heapq
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Iterable

SPECIAL = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
BEGIN, END = 0, 1
NUMBERS = re.compile("[0-9]")


def byte_characters() -> list[str]:
    """The printable character that stands for every byte value (GPT-2's table)."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {}, 256
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(spare)
            spare += 1
    return [table[b] for b in range(256)]


def character_class(first_letter: str) -> str:
    """A regular-expression class body of all characters whose Unicode category starts with the letter."""
    ranges, start = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == first_letter
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(ranges)


@lru_cache(maxsize=1)
def splitter() -> re.Pattern[str]:
    letters, numbers = character_class("L"), character_class("N")
    return re.compile(
        rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{letters}]+| ?[{numbers}]+| ?[^\s{letters}{numbers}]+|\s+(?!\S)|\s+"
    )


class Tokenizer:
    """Encodes and decodes with a vocabulary and ranked merges."""

    def __init__(self, merges: list[tuple[str, str]]):
        self.merges = merges
        tokens = SPECIAL + sorted(byte_characters(), key=ord) + [a + b for a, b in merges]
        self.tokens = list(dict.fromkeys(tokens))
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {pair: i for i, pair in reversed(list(enumerate(merges)))}
        self.bytes = byte_characters()
        self.of_character = {c: b for b, c in enumerate(self.bytes)}
        self.cache: dict[str, list[int]] = {}
        self.begin: int | None = BEGIN

    def fingerprint(self) -> str:
        return hashlib.sha1(repr(self.merges).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.tokens)

    def characters(self, piece: str) -> list[str]:
        return [self.bytes[b] for b in piece.encode("utf-8")]

    def parts(self, piece: str) -> list[str]:
        """The tokens of one piece: the pair of lowest rank is joined until none is left."""
        parts = self.characters(piece)
        while len(parts) > 1:
            ranks = [self.rank.get(pair, sys.maxsize) for pair in zip(parts, parts[1:])]
            best = min(ranks)
            if best == sys.maxsize:
                break
            pair, joined, i = self.merges[best], [], 0
            while i < len(parts):
                if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
                    joined.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    joined.append(parts[i])
                    i += 1
            parts = joined
        return parts

    def encode(self, text: str) -> list[int]:
        """Plain text to ids. Names of special tokens inside the text stay text."""
        out: list[int] = []
        for piece in splitter().findall(text):
            ids = self.cache.get(piece)
            if ids is None:
                ids = self.cache[piece] = [self.ids[part] for part in self.parts(piece)]
            out += ids
        return out

    def decode(self, ids: list[int]) -> str:
        text = "".join(self.tokens[i] for i in ids if i >= len(SPECIAL))
        return bytes(self.of_character[c] for c in text).decode("utf-8", "replace")

    def save(self, path: Path) -> None:
        added = [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, t in enumerate(SPECIAL)
        ]
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        document = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                "ignore_merges": False, "vocab": self.ids, "merges": [list(pair) for pair in self.merges],
            },
        }
        path.write_text(json.dumps(document, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "Tokenizer":
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        tokenizer = Tokenizer([(a, b) for a, b in model["merges"]])
        assert tokenizer.ids == model["vocab"], "vocabulary is not in the order of the merges"
        return tokenizer


class Last:
    """Turns the order of pairs around: of two equally frequent ones the alphabetically last wins."""

    __slots__ = ("pair",)

    def __init__(self, pair: tuple[str, str]):
        self.pair = pair

    def __lt__(self, other: "Last") -> bool:
        return self.pair > other.pair


def learn_merges(texts: Iterable[str], count: int, digits: bool = False) -> list[tuple[str, str]]:
    """The `count` best merges of the texts: always the most frequent neighbouring pair.

    `digits`: every digit stays a token of its own, its leading space another.
    """
    table = byte_characters()
    pieces: Counter[str] = Counter()
    for text in texts:
        pieces.update(splitter().findall(text))
    if digits:
        pieces = Counter({piece: n for piece, n in pieces.items() if not NUMBERS.search(piece)})
    words = [[table[b] for b in piece.encode("utf-8")] for piece in pieces]
    weight = list(pieces.values())
    pairs: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += weight[i]
            where[pair].add(i)
    heap = [(-n, Last(pair)) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges = []
    while len(merges) < count and heap:
        n, last = heapq.heappop(heap)
        pair = last.pair
        if pairs.get(pair, 0) != -n or n == 0:
            continue  # an old count: the pair stands again elsewhere in the heap
        merges.append(pair)
        touched = set()
        for i in list(where[pair]):
            word = words[i]
            for old in zip(word, word[1:]):
                pairs[old] -= weight[i]
                touched.add(old)
            joined, k = [], 0
            while k < len(word):
                if k + 1 < len(word) and (word[k], word[k + 1]) == pair:
                    joined.append(word[k] + word[k + 1])
                    k += 2
                else:
                    joined.append(word[k])
                    k += 1
            words[i] = joined
            for new in zip(joined, joined[1:]):
                pairs[new] += weight[i]
                where[new].add(i)
                touched.add(new)
        del pairs[pair], where[pair]
        for other in touched - {pair}:
            heapq.heappush(heap, (-pairs[other], Last(other)))
    return merges


def with_words(merges: list[tuple[str, str]], words: list[str]) -> list[tuple[str, str]]:
    """Adds the merges that make every word, with a leading space, one token."""
    tokenizer = Tokenizer(list(merges))
    for word in words:
        parts = tokenizer.parts(" " + word)
        while len(parts) > 1:
            tokenizer.rank.setdefault((parts[0], parts[1]), len(tokenizer.merges))
            tokenizer.merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
    return tokenizer.merges


def train(texts: Iterable[str], size: int, words: list[str], digits: bool = False) -> Tokenizer:
    """A tokenizer of exactly `size` ids in which all `words` are single tokens."""
    learned = learn_merges(texts, size - 256 - len(SPECIAL), digits)
    low, high = 0, len(learned)
    while low < high:
        middle = (low + high + 1) // 2
        if len(Tokenizer(with_words(learned[:middle], words))) <= size:
            low = middle
        else:
            high = middle - 1
    return Tokenizer(with_words(learned[:low], words))
