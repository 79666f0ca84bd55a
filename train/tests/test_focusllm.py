"""FocusLLM: the stored cases, the incremental against the stateless definition, packed windows, samples, export."""
from __future__ import annotations

import json
import random
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from banyan_train import bases, export, focus_check, focus_sample, focus_train, focus_windows, focusllm, llama  # noqa: E402
from banyan_train.config import LlamaConfig  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
STORED = [p for p in (ROOT / "test" / "fixtures" / "focusllm", ROOT.parent / "shared" / "fixtures" / "focusllm") if p.is_dir()]
TINY = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
                   num_key_value_heads=2)
BOS = 0


def tiny(beacon: str = "qkvo", biases: str = "", seed: int = 1) -> focusllm.FocusLlama:
    """Random weights in float64, large enough that attention is far from even."""
    generator = torch.Generator().manual_seed(seed)
    model = focusllm.FocusLlama(TINY, beacon, biases).double()
    llama.initialise(model, generator, 0.4)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.copy_(torch.randn(p.shape, generator=generator))
    return model


def words(count: int, seed: int = 1) -> list[int]:
    draws = random.Random(seed)
    return [draws.randint(1, 39) for _ in range(count)]


class Stored(unittest.TestCase):
    @unittest.skipUnless(STORED, "no stored cases: neither test/fixtures/focusllm nor the shared ones are there")
    def test_authors_numbers(self):
        folders = sorted(p for p in STORED[0].iterdir() if (p / "config.json").exists())
        self.assertTrue(folders)
        for folder in folders:
            with self.subTest(folder.name):
                focus_check.check_case(folder)


class Inference(unittest.TestCase):
    @torch.no_grad()
    def test_incremental_is_stateless(self):
        for beacon, biases in (("qkvo", ""), ("kv", "qkv"), ("qkvo", "qkvo")):
            model, prompt = tiny(beacon, biases), words(53)
            cut = focusllm.Cutter(16, 10, 16, cap=6, bos=BOS).cut(prompt)
            self.assertEqual([len(c) for c in cut.chunks], [10, 10, 10, 7])
            self.assertEqual(cut.query, [BOS, *prompt[-6:]])
            tokens, logits = focusllm.greedy(model, cut, 6)
            for t in range(6):
                self.assertLess((focusllm.stateless(model, cut, tokens[:t]) - logits[t]).abs().max().item(), 1e-11)

    @torch.no_grad()
    def test_nothing_to_cut(self):
        """Below the threshold, or below the window, the base alone reads bos+(x)."""
        model, prompt = tiny(), words(20)
        for cutter in (focusllm.Cutter(16, 8, 21, bos=BOS), focusllm.Cutter(30, 8, 5, bos=BOS), focusllm.Cutter(20, 8, 5, bos=BOS)):
            logits = focusllm.stateless(model, cutter.cut(prompt), [])
            want = model.logits(model.run(torch.tensor([[BOS, *prompt]]))[0])[0, -1]
            self.assertEqual((logits - want).abs().max().item(), 0)

    @torch.no_grad()
    def test_plain_pass_is_the_base(self):
        model = tiny()
        base = llama.Llama(TINY).double()
        base.load_state_dict({k: v for k, v in model.state_dict().items() if "beacon" not in k})
        ids = torch.tensor([words(30)])
        self.assertLess((model.logits(model.run(ids)[0]) - base(ids)).abs().max().item(), 1e-12)

    @torch.no_grad()
    def test_copied_projections(self):
        """Untrained, a candidate is the ordinary last token of its chunk."""
        model = tiny("", "qkv")
        copied = focusllm.build({**TINY.hugging_face()}, dict(model.state_dict()), torch.float64)
        self.assertIn("model.layers.0.self_attn.beacon_q_proj.bias", copied.state_dict())
        ids = torch.tensor([words(20)])
        whole = copied.run(ids)[1]
        last = copied.candidates(copied.run(ids[:, :-1])[1], ids[:, -1])
        for have, want in zip(last.keys + last.values, whole.keys + whole.values):
            self.assertLess((have - want[:, :, -1:]).abs().max().item(), 1e-12)

    def test_bos(self):
        self.assertEqual(focusllm.with_bos([5, 6], 0), [0, 5, 6])
        self.assertEqual(focusllm.with_bos([0, 6], 0), [0, 6])
        self.assertEqual(focusllm.with_bos([5, 6], None), [5, 6])


class Packed(unittest.TestCase):
    def test_windows_are_stateless(self):
        """Different chunks, numbers of chunks and lengths in one batch: the logits of the definition, one by one."""
        model = tiny()
        chunks = [words(n, seed=n) for n in (9, 12, 3, 12, 1)]
        documents, texts = [[0, 1, 2], [3], [4, 0, 3, 1]], [words(8, 5), words(3, 6), words(1, 7)]
        pool = focus_windows.read_chunks(model, chunks)
        have = focus_windows.score(model, pool, documents, texts, 5, BOS)
        for logits, document, text in zip(have, documents, texts):
            cut = focusllm.Cut([chunks[c] for c in document], [BOS, *text[-5:]], [BOS, *text])
            self.assertLess((focusllm.stateless(model, cut, []) - logits).abs().max().item(), 1e-11)

    def test_gradient(self):
        """The packed batch trains what the authors' loss trains; the last layer's q and o get nothing."""
        tokens, sample = words(80), focus_sample.Sample(start=50, size=13, chunk=8, covered=44)
        gradients = []
        for packed in (False, True):
            model = tiny()
            model.checkpointing = packed  # recomputing changes nothing either
            focusllm.freeze(model)
            if packed:
                pool = focus_windows.read_chunks(model, [tokens[a:b] for a, b in sample.chunks()])
                logits = focus_windows.score(model, pool, [list(range(6))], [tokens[50:63]], sample.query(), BOS)
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor([tokens[63]]))
            else:
                loss = focus_sample.loss(model, tokens, sample, BOS)
            loss.backward()
            gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        one, other = gradients
        self.assertEqual(len(one), 4 * 3 - 2)
        self.assertNotIn("model.layers.2.self_attn.beacon_o_proj.weight", one)
        for name in one:
            self.assertLess((one[name] - other[name]).abs().max().item(), 1e-12)
            self.assertGreater(one[name].abs().max().item(), 0)

    @torch.no_grad()
    def test_ring(self):
        model, ring = tiny(), focus_windows.Ring(3)
        for seed in range(5):
            ring.add(focus_windows.read_chunks(model, [words(6, seed)]), [{seed: 7}])
        self.assertEqual([list(f) for f in ring.facts], [[3], [4], [2]])
        self.assertEqual(ring.without(4).tolist(), [0, 2])
        want = focus_windows.read_chunks(model, [words(6, 4)])
        self.assertLess((ring.past.keys[1][1] - want.keys[1][0]).abs().max().item(), 1e-12)


class Samples(unittest.TestCase):
    def test_bounds(self):
        draws = random.Random(3)
        for _ in range(300):
            n = draws.randint(128, 700)
            for objective in focus_sample.OBJECTIVES:
                sample = focus_sample.draw(objective, n, 128, [32, 64], draws)
                self.assertLess(sample.target, n)
                self.assertEqual(sample.covered, n if objective == "repetition" else sample.start)
                self.assertEqual(sum(b - a for a, b in sample.chunks()), sample.covered)
                self.assertTrue(0 < sample.query() <= min(sample.chunk, sample.size))
        with self.assertRaises(ValueError):
            focus_sample.draw("repetition", 127, 128, [32], draws)

    def test_siblings(self):
        """More windows over one text's chunks are samples by the same rule."""
        draws = focus_train.Draws(np.random.default_rng(1))
        windows = focus_train.TextWindows(None, draws, [32, 64], 128, 700, 5, BOS)
        for objective in focus_sample.OBJECTIVES:
            for _ in range(100):
                n = draws.randint(128, 700)
                first = focus_sample.draw(objective, n, 128, [32, 64], draws)
                for sample in windows.siblings(first, objective, n):
                    self.assertLess(sample.target, n)
                    self.assertGreaterEqual(sample.size, focus_sample.SHORTEST)
                    self.assertEqual(sample.chunks(), first.chunks())

    def test_no_chunk_without_question(self):
        """Chunks are drawn again until one of them holds a fact to ask for."""

        class Few(focus_train.FactWindows):
            n_drawn = 0

            def chunk(self, size):
                self.n_drawn += 1
                return np.full(size, 3), {5: 6} if self.n_drawn == 300 else {}

            def window(self, ring, place, key, m, here):
                return [place], [4, key]

        look = SimpleNamespace(tokenizer=SimpleNamespace(begin=BOS))
        draws = focus_train.Draws(np.random.default_rng(1))
        windows = Few(None, look, draws, [32], 128, 100)
        drawn = windows.draw(tiny())
        self.assertEqual((windows.n_drawn, drawn.texts, drawn.targets), (320, [[4, 5]], [6]))


class Export(unittest.TestCase):
    def test_round_trip(self):
        model = tiny().float()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            export.base(llama.Llama(TINY), folder / "base", torch.float32)
            own = bases.load(folder / "base")
            export.focus(model, folder / "focus", own.described(), 16, 512, torch.float32)
            keys = json.loads((folder / "focus" / "adapter_config.json").read_text())
            self.assertEqual((keys["method"], keys["beacon_param"], keys["chunk_size"]), ("focusllm", list("qkvo"), 16))
            loaded = export.load_focus(own, folder / "focus").state_dict()
        for key, value in model.state_dict().items():
            if "beacon" in key:
                self.assertTrue(torch.equal(loaded[key], value))


if __name__ == "__main__":
    unittest.main()
