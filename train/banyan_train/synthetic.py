"""Look-up samples: readable facts planted into text, and questions about them.

Kinds:
* `fact`: ends in ` <key> is <value>.`, asked by ` <key> is`; key and value are single tokens.
* `passkey`: a number of five digits that belongs to a key; at most once a row to none: `The pass key is <number>`.
* `repeat`: a sentence of other text behind a key, to be said again.
* `documents`: the same key has another value in every titled document; the question names the title.

Keys and values are paired anew for every sample, so that nothing can be learned by heart.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .data import Encoder
from .words import KEYS, VALUES

FACTS = [" The code word of", "\n\nThe code word of", " The code word of the", " Remember: the code word of",
         "\n\n> The code word of", "\n\n- The code word of", "\n\n**Note:** the code word of", " The secret of the",
         " It is known that the", " The name of", " And the"]
ENDINGS = [".", ".", ".", ".\n\n", "!", ",", ";"]
QUESTIONS = ["\n\nThe code word of", "The code word of", "\n\nThe code word of the", " So the code word of",
             "\n\nWhat is the code word of it? The code word of",
             "\n\nQuestion: What is the secret?\nAnswer: The secret of the",
             " It is known that the", "\n\nAs was said before, the", "\n\nThe name of", " Remember: the code word of"]
KINDS = ("fact", "passkey", "repeat", "documents")
FEWEST = 16  # keys and values that have to be single tokens; a vocabulary with fewer of them gets any ids instead


@dataclass
class Row:
    """Token ids [T] and the weight of predicting each of them [T] (weight 0: not scored)."""

    ids: np.ndarray
    weight: np.ndarray
    answers: np.ndarray  # [T] bool: the token is the answer of a question


@dataclass
class Item:
    """Something to be planted, and what asks for it. All are token ids."""

    fact: list[int]
    question: list[int]
    answer: list[int]
    drawn: list[int] = field(default_factory=list)  # places of the fact that were drawn at random: nothing to predict
    place: int = 0  # of the answer's first token in the fact
    key: int = 0


class Lookups:
    """`kinds` and their shares; only `fact` unless said otherwise."""

    def __init__(self, tokenizer: Encoder, rng: np.random.Generator, kinds: dict[str, float] | None = None):
        self.rng, self.tokenizer = rng, tokenizer
        self.kinds = kinds or {"fact": 1.0}
        self.keys, self.values = (self._single(tokenizer, words) for words in (KEYS, VALUES))
        distinct = len({*self.keys.tolist(), *self.values.tolist()}) == len(self.keys) + len(self.values)
        if min(len(self.keys), len(self.values)) < FEWEST or not distinct:
            # any two thirds of the vocabulary: what is matched and copied are ids, whatever they spell
            ids = rng.permutation(np.arange(min(300, len(tokenizer) // 3), len(tokenizer)))
            self.keys, self.values = ids[: len(ids) // 2][:2000], ids[len(ids) // 2 :][:2000]
        self.link = tokenizer.encode(" is")[-1]
        self.facts = [tokenizer.encode(t) for t in FACTS]
        self.endings = [tokenizer.encode(t) for t in ENDINGS]
        self.questions = [tokenizer.encode(t) for t in QUESTIONS]

    @staticmethod
    def _single(tokenizer: Encoder, words: list[str]) -> np.ndarray:
        ids = [tokenizer.encode(" " + word) for word in words]
        return np.array([i[0] for i in ids if len(i) == 1], dtype=np.int64)

    def pairs(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` different keys, and values drawn freely."""
        return self.rng.choice(self.keys, count, replace=False), self.rng.choice(self.values, count)

    def _first(self, bank: list[list[int]], canonical: bool) -> list[int]:
        """The plain `The code word of` half of the time (always, if canonical), else any form."""
        if canonical or self.rng.random() < 0.5:
            return bank[self.rng.integers(2)]
        return bank[self.rng.integers(len(bank))]

    def fact(self, key: int, value: int, canonical: bool = False) -> list[int]:
        end = self.endings[0] if canonical else self.endings[self.rng.integers(len(self.endings))]
        return [*self._first(self.facts, canonical), int(key), self.link, int(value), *end]

    def question(self, key: int, canonical: bool = False) -> list[int]:
        return [*self._first(self.questions, canonical), int(key), self.link]

    # ---- items of all kinds ----

    def item(self, kind: str, key: int, value: int, sentence: np.ndarray | None = None, canonical: bool = False) -> Item:
        encode, key, value = self.tokenizer.encode, int(key), int(value)
        if kind == "passkey":
            return self.passkey([key])
        if kind == "repeat":
            head, said = encode("\n\nNote"), [int(t) for t in sentence]
            return Item([*head, key, *encode(":"), *said, *encode("\n\n")],
                        [*encode("\n\nRepeat the note"), key, *encode(":")], said, [len(head)],
                        len(head) + 1 + len(encode(":")), key)
        fact = self.fact(key, value, canonical)
        at = len(fact) - 1 - fact[::-1].index(value)
        return Item(fact, self.question(key, canonical), [value], [at - 2, at], at, key)

    def passkey(self, key: list[int]) -> Item:
        """Five digits that belong to a key, or to none: the one pass key of its row."""
        encode = self.tokenizer.encode
        digits = encode(f" {self.rng.integers(10_000, 100_000)}")
        what = [*encode(" The pass key of"), *key] if key else encode(" The pass key")
        asked = [*encode("\n\nWhat is the pass key? The pass key of"), *key] if key else encode("\n\nThe pass key")
        drawn, at = len(what) - len(key), len(what) + 1
        return Item([*what, self.link, *digits, *encode(". Remember it.")], [*asked, self.link], digits,
                    [*range(drawn, drawn + len(key)), *range(at, at + len(digits))], at, key[0] if key else self.link)

    def titled(self, key: int, titles: np.ndarray, values: np.ndarray) -> list[Item]:
        """One item a title: everywhere the same key, each time another value."""
        encode, out = self.tokenizer.encode, []
        head, middle = encode("\n\n# Document"), encode("\n\nThe code word of")
        for title, value in zip(titles, values):
            at = len(head) + 1 + len(middle) + 2
            fact = [*head, int(title), *middle, int(key), self.link, int(value), *self.endings[0]]
            question = [*encode("\n\nIn document"), int(title), *encode(" the code word of"), int(key), self.link]
            out.append(Item(fact, question, [int(value)], [len(head), at], at, int(title)))
        return out

    def items(self, count: int, text, kinds: dict[str, float] | None = None) -> list[Item]:
        """`count` items with different keys (fewer if the words run out); `text(n)` gives n tokens for sentences."""
        kinds = kinds or self.kinds
        names, share = list(kinds), np.array(list(kinds.values())) / sum(kinds.values())
        keys, values = self.pairs(min(2 * count + 1, len(self.keys)))
        out, used, keyless = [], 0, False
        while len(out) < count and used < len(keys):
            kind = names[self.rng.choice(len(names), p=share)] if len(names) > 1 else names[0]
            group = int(self.rng.integers(2, 4))
            if kind == "documents" and used + 1 + group <= len(keys) and len(out) + group <= count:
                out += self.titled(keys[used], keys[used + 1 : used + 1 + group], values[used : used + group])
                used += 1 + group
                continue
            kind = "fact" if kind == "documents" else kind
            sentence = text(int(self.rng.integers(6, 15))) if kind == "repeat" else None
            if kind == "passkey" and not keyless and self.rng.random() < 0.5:
                out.append(self.passkey([]))
                keyless = True
                continue
            out.append(self.item(kind, keys[used], values[used], sentence))
            used += 1
        return out

    # ---- rows of a window ----

    def insert(self, text: np.ndarray, parts: list[list[int]], low: int, high: int) -> tuple[np.ndarray, list[int]]:
        """Puts the parts at sorted random places of text[low:high]; also returns where each begins."""
        places = np.sort(self.rng.integers(low, high + 1, len(parts)))
        out, begins, last = [], [], 0
        for place, part in zip(places, parts):
            out.append(text[last:place])
            begins.append(sum(map(len, out)))
            out.append(np.asarray(part, dtype=text.dtype))
            last = place
        out.append(text[last:])
        return np.concatenate(out), begins

    def window(self, text: np.ndarray, answer_weight: float = 5.0, count: int = 0, asks: int = 1) -> Row:
        """A row as long as `text` with facts in its first part and questions behind them.

        `count` facts (0: one or more for every 40 tokens), each asked `asks` times; what does not fit is left out.
        """
        length = len(text)
        count = count or int(self.rng.integers(2, max(3, length // 40)))
        slices = lambda n: text[(at := int(self.rng.integers(0, max(1, length - n)))) : at + n]
        items = self.items(count, slices)
        order = [i for _ in range(asks) for i in self.rng.permutation(len(items))]
        ending = self.endings[0]
        asked, room = [], length - sum(len(i.fact) for i in items)
        for i in order:
            size = len(items[i].question) + len(items[i].answer) + len(ending)
            if size <= room - 2:
                asked.append(items[i])
                room -= size
        if room < 2 or not asked:
            return Row(text, np.ones(length, np.float32), np.zeros(length, bool))
        border = int(room * self.rng.uniform(0.3, 0.9))
        front, begins = self.insert(text[:border], [i.fact for i in items], min(1, border), border)
        questions = [[*i.question, *i.answer, *ending] for i in asked]
        back, asked_at = self.insert(text[border:room], questions, 0, room - border)
        ids = np.concatenate([front, back])
        weight, is_answer = np.ones(length, np.float32), np.zeros(length, bool)
        for begin, item in zip(begins, items):
            weight[[begin + at for at in item.drawn]] = 0
        for begin, item in zip(asked_at, asked):
            at = len(front) + begin + len(item.question)
            answer = slice(at, at + len(item.answer))
            weight[at - 2] = 0  # which key is asked cannot be foretold
            weight[answer] = answer_weight / len(item.answer) ** 0.5
            is_answer[answer] = True
        return Row(ids, weight, is_answer)

    def repeated(self, length: int, different: int = 0) -> Row:
        """Random ids, said twice: what an induction head is made of. Only the second time is scored.

        `different`: ids are drawn from so many (0: all), and the second time counts as answers.
        """
        half = int(self.rng.integers(4, length // 2 + 1))
        ids = self.rng.integers(5, min(5 + different, len(self.tokenizer)) if different else len(self.tokenizer), length)
        ids[half : 2 * half] = ids[:half]
        weight, answers = np.zeros(length, np.float32), np.zeros(length, bool)
        weight[half + 1 : 2 * half] = 1
        answers[half + 1 : 2 * half] = different > 0
        return Row(ids, weight, answers)
