"""Look-up samples: readable facts planted into text, and questions about them.

A fact ends in ` <key> is <value>.`, a question in ` <key> is`; keys and values are single tokens and paired anew for
every sample, so that nothing can be learned by heart.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bpe import Tokenizer
from .words import KEYS, VALUES

FACTS = [" The code word of", "\n\nThe code word of", " The code word of the", " Remember: the code word of",
         "\n\n> The code word of", "\n\n- The code word of", "\n\n**Note:** the code word of", " The secret of the",
         " It is known that the", " The name of", " And the"]
ENDINGS = [".", ".", ".", ".\n\n", "!", ",", ";"]
QUESTIONS = ["\n\nThe code word of", "The code word of", "\n\nThe code word of the", " So the code word of",
             "\n\nWhat is the code word of it? The code word of",
             "\n\nQuestion: What is the secret?\nAnswer: The secret of the",
             " It is known that the", "\n\nAs was said before, the", "\n\nThe name of", " Remember: the code word of"]


@dataclass
class Row:
    """Token ids [T] and the weight of predicting each of them [T] (weight 0: not scored)."""

    ids: np.ndarray
    weight: np.ndarray
    answers: np.ndarray  # [T] bool: the token is the answer of a question


class Lookups:
    def __init__(self, tokenizer: Tokenizer, rng: np.random.Generator):
        self.rng = rng
        one = lambda word: self._single(tokenizer, " " + word)
        self.keys = np.array([one(w) for w in KEYS])
        self.values = np.array([one(w) for w in VALUES])
        self.link = one("is")
        self.facts = [tokenizer.encode(t) for t in FACTS]
        self.endings = [tokenizer.encode(t) for t in ENDINGS]
        self.questions = [tokenizer.encode(t) for t in QUESTIONS]

    @staticmethod
    def _single(tokenizer: Tokenizer, text: str) -> int:
        ids = tokenizer.encode(text)
        assert len(ids) == 1, f"{text!r} is not one token"
        return ids[0]

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

    def window(self, text: np.ndarray, answer_weight: float = 5.0) -> Row:
        """A row as long as `text` with facts in its first part and questions behind them."""
        length = len(text)
        count = int(self.rng.integers(2, max(3, length // 40)))
        keys, values = self.pairs(count)
        facts = [self.fact(k, v) for k, v in zip(keys, values)]
        asked = self.rng.permutation(count)
        questions = [self.question(keys[i]) for i in asked]
        ending = self.endings[0]
        answers = [int(values[i]) for i in asked]
        questions = [[*q, a, *ending] for q, a in zip(questions, answers)]
        room = length - sum(map(len, facts)) - sum(map(len, questions))
        if room < 2:
            return Row(text, np.ones(length, np.float32), np.zeros(length, bool))
        border = int(room * self.rng.uniform(0.3, 0.9))
        front, begins = self.insert(text[:border], facts, 1, border)
        back, asked_at = self.insert(text[border:room], questions, 0, room - border)
        ids = np.concatenate([front, back])
        weight, is_answer = np.ones(length, np.float32), np.zeros(length, bool)
        for begin, fact in zip(begins, facts):
            at = begin + len(fact) - 1 - fact[::-1].index(self.link)
            weight[[at - 1, at + 1]] = 0  # drawn at random: nothing to predict
        for begin, question in zip(asked_at, questions):
            at = len(front) + begin + len(question) - len(ending) - 1
            weight[at - 2] = 0
            weight[at] = answer_weight
            is_answer[at] = True
        return Row(ids, weight, is_answer)
