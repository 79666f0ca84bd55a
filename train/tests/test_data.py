"""Text files and token caches, merges, synthetic facts."""
from __future__ import annotations

import gzip
import json
import lzma
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

TRAIN = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TRAIN))

from banyan_train import bases, bpe, data  # noqa: E402
from banyan_train.synthetic import KINDS, Lookups  # noqa: E402
from banyan_train.words import KEYS, VALUES  # noqa: E402

WORDS = ("the river and a small house near old trees where people talk of many things in the long evening "
         "while rain falls on green hills and nobody knows what comes after that").split()


def prose(count: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, count)) + "."


def corpus(folder: Path) -> None:
    """Three kinds of text in the three forms."""
    lines = lambda seed: "".join(json.dumps({"text": prose(400, seed + i)}) + "\n" for i in range(40))
    (folder / "plain-train.jsonl").write_text(lines(1), encoding="utf-8")
    with gzip.open(folder / "zipped-train.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write(lines(100))
    with lzma.open(folder / "packed-train.jsonl.xz", "wt", encoding="utf-8") as out:
        out.write(lines(200))
    (folder / "packed-valid.jsonl").write_text(lines(300), encoding="utf-8")


def tokenizer() -> bpe.Tokenizer:
    return bpe.train([prose(3000, 9)], 1200, KEYS[:30] + VALUES[:30])


class Data(unittest.TestCase):
    def test_forms_and_cache(self):
        with tempfile.TemporaryDirectory() as name:
            folder, tok = Path(name), tokenizer()
            corpus(folder)
            train, valid = data.load(tok, folder, folder / "cache", workers=2)
            self.assertEqual(sorted(train), ["packed", "plain", "zipped"])
            self.assertTrue(all(isinstance(a, np.memmap) for a in [*train.values(), *valid.values()]))
            first = tok.decode(train["zipped"][:500].tolist())
            self.assertTrue(first.startswith(prose(400, 101)[:200]))  # document 0 is kept out of training
            self.assertTrue(tok.decode(valid["zipped"][:500].tolist()).startswith(prose(400, 100)[:200]))
            files = {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}
            again, _ = data.load(tok, folder, folder / "cache", workers=1)
            self.assertEqual(files, {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()})
            self.assertEqual(again["plain"].tolist(), train["plain"].tolist())

    def test_workers_agree(self):
        with tempfile.TemporaryDirectory() as name:
            tok, texts = tokenizer(), [prose(30_000, i) for i in range(5)]
            one = data.token_array(tok, texts, Path(name) / "one", 1)
            three = data.token_array(tok, texts, Path(name) / "three", 3)
            self.assertEqual(one.tolist(), three.tolist())

    def test_no_files(self):
        with tempfile.TemporaryDirectory() as name, self.assertRaises(FileNotFoundError):
            data.load(tokenizer(), Path(name), Path(name))


class Merges(unittest.TestCase):
    def test_heap_is_the_definition(self):
        """Always the most frequent pair; of equals the alphabetically last."""
        texts = [prose(300, 4)]
        pieces = [[bpe.byte_characters()[b] for b in p.encode()] for t in texts for p in bpe.splitter().findall(t)]
        want = []
        for _ in range(60):
            counts: dict[tuple[str, str], int] = {}
            for piece in pieces:
                for pair in zip(piece, piece[1:]):
                    counts[pair] = counts.get(pair, 0) + 1
            best = max(counts.items(), key=lambda item: (item[1], item[0]))[0]
            want.append(best)
            joined = []
            for piece in pieces:
                out, k = [], 0
                while k < len(piece):
                    both = tuple(piece[k : k + 2]) == best
                    out.append("".join(piece[k : k + 2]) if both else piece[k])
                    k += 2 if both else 1
                joined.append(out)
            pieces = joined
        self.assertEqual(bpe.learn_merges(texts, 60), want)

    def test_digits_stay_apart(self):
        texts = ["in 1914 and 1914 and 1914, x10 x10 x10 " * 20 + prose(300, 4)]
        whole, apart = (bpe.train(texts, 300, KEYS[:2], digits) for digits in (False, True))
        self.assertLess(len(whole.encode(" 1914")), 5)
        self.assertEqual([apart.tokens[i] for i in apart.encode(" 1914")], ["Ġ", "1", "9", "1", "4"])


class Synthetic(unittest.TestCase):
    def test_every_kind_can_be_answered(self):
        """What is asked stands in the fact, behind what the question ends in."""
        tok, rng = tokenizer(), np.random.default_rng(3)
        text = lambda n: np.asarray(tok.encode(prose(60, 1))[:n])
        for kind in KINDS:
            look = Lookups(tok, rng, {kind: 1.0})
            items = look.items(6, text)
            self.assertEqual(len(items), 6)
            for item in items:
                self.assertEqual(item.fact[item.place : item.place + len(item.answer)], item.answer)
                self.assertEqual(item.fact[item.place - 2 : item.place], item.question[-2:])
            row = look.window(np.asarray(tok.encode(prose(900, 2))[:400]), count=4)
            self.assertEqual(len(row.ids), 400)
            self.assertTrue(row.answers.any() and (row.weight[row.answers] > 0).all())

    def test_one_pass_key_of_a_row_has_no_key(self):
        look = Lookups(tokenizer(), np.random.default_rng(3), {"passkey": 1.0})
        asked = look.passkey([]).question
        counts = [sum(item.question == asked for item in look.items(5, None)) for _ in range(20)]
        self.assertEqual(max(counts), 1)
        self.assertGreater(sum(counts), 10)  # each of five may be it, in half of the cases

    def test_any_vocabulary(self):
        look = Lookups(bases.Ids(512, 1), np.random.default_rng(1))
        self.assertGreater(min(len(look.keys), len(look.values)), 100)
        self.assertFalse(set(look.keys.tolist()) & set(look.values.tolist()))


if __name__ == "__main__":
    unittest.main()
