"""Data, files of bases, the training loop, several processes."""
from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

TRAIN = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TRAIN))

from banyan_train import adapter, bases, bpe, config, data, export, focusllm, gguf, llama, loop, tensors  # noqa: E402
from banyan_train.memory import TreeConfig  # noqa: E402
from banyan_train.synthetic import KINDS, Lookups  # noqa: E402
from banyan_train.words import KEYS, VALUES  # noqa: E402

STORIES = TRAIN.parents[1] / "shared" / "models" / "stories260K-f32.gguf"
SHARED = next((p for p in (STORIES, Path("/work/shared/models") / STORIES.name) if p.exists()), STORIES)
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

    def test_any_vocabulary(self):
        look = Lookups(bases.Ids(512, 1), np.random.default_rng(1))
        self.assertGreater(min(len(look.keys), len(look.values)), 100)
        self.assertFalse(set(look.keys.tolist()) & set(look.values.tolist()))


BIASED = dict(vocab_size=70, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1)


def random_model(c: config.LlamaConfig) -> llama.Llama:
    model = llama.Llama(c)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (1 if p.dim() == 1 else 0))
    return model.eval()


class Bases(unittest.TestCase):
    KINDS = {
        "llama": config.LlamaConfig(**BIASED, max_position_embeddings=64),
        "untied": config.LlamaConfig(**BIASED, tie_word_embeddings=False, rope=config.Rope(1e5, "linear", 4.0, 16), rope_theta=1e5),
        "yarn": config.LlamaConfig(**BIASED, rope=config.Rope(1e4, "yarn", 4.0, 128), rope_theta=1e4),
        "qwen2": config.LlamaConfig(**BIASED, model_type="qwen2", qkv_bias=True),
        "qwen3": config.LlamaConfig(**BIASED, model_type="qwen3", qk_norm=True, head_dim=16),
    }

    @torch.no_grad()
    def test_files_of_every_family(self):
        """Hugging Face directory, its shards and GGUF give the same logits as the model that was written."""
        ids = torch.tensor([[5, 9, 33, 2, 61, 8, 8, 40]])
        for name, c in self.KINDS.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as tmp:
                model, folder = random_model(c), Path(tmp) / "base"
                want = model(ids)
                export.base(model, folder, torch.float32)
                one = bases.load(folder)
                state = tensors.read(folder / "model.safetensors")
                names = sorted(state)
                tensors.write(folder / "a.safetensors", {n: state[n] for n in names[::2]})
                tensors.write(folder / "b.safetensors", {n: state[n] for n in names[1::2]})
                (folder / "model.safetensors").unlink()
                weight_map = {n: "ab"[i % 2] + ".safetensors" for i, n in enumerate(names)}
                (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
                gguf.write(Path(tmp) / "base.gguf", c, model.state_dict(), None, "base", torch.float32)
                for base in (one, bases.load(folder), bases.load(Path(tmp) / "base.gguf")):
                    again = llama.Llama(base.config)
                    again.load_state_dict(base.state)
                    self.assertLess((again(ids) - want).abs().max().item(), 2e-5)
                    self.assertEqual(base.fingerprint(), one.fingerprint())

    @torch.no_grad()
    def test_adapters_of_every_family(self):
        """Without a cross output, and with untrained candidates' chunks left out, an adapter's model is the base."""
        ids = torch.tensor([[5, 9, 33, 2, 61, 8, 8, 40]])
        for name, c in self.KINDS.items():
            plain = random_model(c)
            own = bases.Base(c, plain.state_dict(), bases.Ids(c.vocab_size, 0), Path(name))
            want = plain(ids)
            for lower in ("shared", "lora", "own"):
                with self.subTest(name, lower=lower):
                    model = adapter.from_base(own, TreeConfig(layers=2, depth=2, last_p="4", semantics="nested", slot_kind="mean"), lower)
                    memory = model.read(torch.arange(3, 60), ids[0], 20)
                    moved = (model(ids, memory) - want).abs().max().item()
                    for block in model.model.layers[:2]:
                        block.cross_attn.o_proj.weight.zero_()
                    self.assertLess((model(ids, memory) - want).abs().max().item(), 1e-5)
                    self.assertGreater(moved, 1e-3)
            focus = focusllm.from_base(c, plain.state_dict())
            self.assertLess((focus.logits(focus.run(ids)[0]) - want).abs().max().item(), 1e-5)

    @unittest.skipUnless(SHARED.exists(), "the shared model of other people is not there")
    @torch.no_grad()
    def test_a_model_of_other_people(self):
        """Greedy tokens of stories260K as its own program gives them."""
        expected = json.loads(SHARED.with_name("stories260K-expected.json").read_text())
        base = bases.load(SHARED)
        model = llama.Llama(base.config)
        model.load_state_dict(base.state)
        case = expected["greedy"]["bos_only"]
        prompt, want = case["prompt_tokens"], case["tokens"][:40]
        ids = list(prompt)
        for _ in want:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        self.assertEqual(ids[len(prompt) :], want)

    def test_bad_files(self):
        with tempfile.TemporaryDirectory() as tmp:
            path = Path(tmp) / "x.gguf"
            path.write_bytes(b"GGUX" + bytes(40))
            with self.assertRaises(ValueError):
                bases.load(path)
            with self.assertRaises(ValueError):
                config.LlamaConfig.of({**BIASED, "model_type": "gpt2"})

    def test_rope_variants(self):
        plain = config.Rope(1e4).frequencies(32)
        for rope in (config.Rope.of({"rope_theta": 1e4, "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
                                     "high_freq_factor": 4, "original_max_position_embeddings": 8192}}),
                     config.Rope.of({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn", "factor": 4,
                                                         "original_max_position_embeddings": 2048}})):
            scaled = rope.frequencies(32)
            self.assertAlmostEqual(scaled[0], plain[0], 12)  # the fastest pair is kept, the slowest one slowed down
            self.assertAlmostEqual(scaled[-1], plain[-1] / rope.factor, 12)
            self.assertEqual(config.Rope.of(rope.hugging_face()), rope)


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(6, 6)


def toy_draw(model: Toy, rng: np.random.Generator):
    def draw(step: int):
        x = torch.from_numpy(rng.normal(size=(4, 6))).float()
        return (model.layer(x) - x.flip(1)).square().mean(), {}, 4
    return draw


class Loop(unittest.TestCase):
    def setUp(self):
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def run_toy(self, folder: Path, **changes) -> tuple[Toy, bool]:
        model, rng = Toy(), np.random.default_rng(1)
        plan = loop.Plan(**{**dict(folder=folder, steps=40, peak=1e-2, warmup=3, every=10), **changes})
        over = loop.run(model, toy_draw(model, rng), plan, rngs=[rng], report=lambda step: {})
        return model, over

    def test_goes_on_after_a_stop(self):
        with tempfile.TemporaryDirectory() as tmp:
            want, _ = self.run_toy(Path(tmp) / "one")
            _, over = self.run_toy(Path(tmp) / "two", until=time.time() - 1)  # stops after its first step
            self.assertFalse(over)
            have, over = self.run_toy(Path(tmp) / "two")
            self.assertTrue(over)
            self.assertTrue(torch.equal(have.layer.weight, want.layer.weight))
            self.assertTrue(self.run_toy(Path(tmp) / "two")[1])  # nothing is left to do

    def test_accumulation_is_the_mean_gradient(self):
        with tempfile.TemporaryDirectory() as tmp:
            model, rng, twin = Toy(), np.random.default_rng(1), Toy()
            plan = loop.Plan(folder=Path(tmp), steps=1, peak=1e-2, warmup=1, accumulate=3)
            loop.run(model, toy_draw(model, rng), plan, rngs=[rng], report=lambda step: {})
            other = np.random.default_rng(1)
            (sum(toy_draw(twin, other)(0)[0] for _ in range(3)) / 3).backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
            for a, b in zip(model.parameters(), twin.parameters()):
                self.assertLess((a.grad - b.grad).abs().max().item(), 1e-6)

    def test_dry_run_writes_nothing(self):
        with tempfile.TemporaryDirectory() as tmp:
            self.assertTrue(self.run_toy(Path(tmp), dry_run=True)[1])
            self.assertEqual(list(Path(tmp).iterdir()), [])

    def test_a_bad_loss_is_an_error(self):
        with tempfile.TemporaryDirectory() as tmp:
            model = Toy()
            draw = lambda step: (model.layer.weight.sum() * float("nan"), {}, 1)
            with self.assertRaises(ArithmeticError):
                loop.run(model, draw, loop.Plan(folder=Path(tmp), steps=3), rngs=[], report=lambda step: {})

    def test_recomputing_changes_nothing(self):
        ids, gradients = torch.randint(0, 70, (2, 12), generator=torch.Generator().manual_seed(1)), []
        for on in (False, True):
            model = random_model(Bases.KINDS["llama"])
            model.checkpointing = on
            model(ids).square().mean().backward()
            gradients.append([p.grad for p in model.parameters()])
        for a, b in zip(*gradients):
            self.assertLess((a - b).abs().max().item(), 1e-6)

    def test_fused_attention(self):
        """What is handed to PyTorch's kernels, told by their definition, is what `attend` computes."""

        def definition(q, k, v, attn_mask=None, is_causal=False):
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if is_causal:
                scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
            return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ v

        generator = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.randn(*shape, generator=generator).double()
        visible = torch.rand(2, 5, 9, generator=generator) > 0.4
        visible[0, 2] = False  # padding: sees nothing
        with mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", definition, create=True):
            for length, total, causal, seen in ((9, 9, True, None), (5, 9, False, None), (5, 9, False, visible)):
                q, k, v = draw(2, 6, length, 4), draw(2, 2, total, 4), draw(2, 2, total, 4)
                have, want = llama.fused(q, k, v, causal, seen), llama.attend(q, k, v, causal, seen)
                self.assertLess((have - want).abs().max().item(), 1e-12)

    def test_bfloat16(self):
        model, ids = random_model(Bases.KINDS["qwen3"]), torch.tensor([[3, 8, 60, 7]])
        with torch.no_grad():
            want = model(ids)
            with loop.autocast("cpu", "bfloat16"):
                have = model(ids)
        self.assertLess((have - want).abs().max().item(), 0.05 * want.abs().max().item())


SCRIPT = '''
import sys
sys.path.insert(0, {train!r}); sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np, time
from test_tooling import Toy, toy_draw
from banyan_train import loop, parallel
parallel.start("cpu")
model, rng = Toy(), np.random.default_rng([1, parallel.rank()])
draw = toy_draw(model, rng)
def slow(step):
    time.sleep({sleep})
    return draw(step)
plan = loop.Plan(folder=Path({folder!r}), steps=30, peak=1e-2, warmup=3, every=5)
loop.run(model, slow, plan, rngs=[rng], report=lambda step: {{}})
'''


class Processes(unittest.TestCase):
    def script(self, folder: Path, sleep: float = 0.0) -> str:
        path = folder.parent / f"{folder.name}-{sleep}.py"
        path.write_text(SCRIPT.format(train=str(TRAIN), tests=str(TRAIN / "tests"), folder=str(folder), sleep=sleep))
        return str(path)

    @staticmethod
    def losses(folder: Path) -> dict[int, float]:
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return {r["step"]: r["loss"] for r in rows if "loss" in r}

    @staticmethod
    def weights(folder: Path) -> torch.Tensor:
        return torch.load(folder / "checkpoint.pt", weights_only=False)["model"]["layer.weight"]

    def test_killed_in_the_middle(self):
        """kill -9, then the same command: the same losses and weights as without."""
        with tempfile.TemporaryDirectory() as tmp:
            whole, cut = Path(tmp) / "whole", Path(tmp) / "cut"
            run = lambda script: subprocess.run([sys.executable, script], check=True, capture_output=True, timeout=300)
            run(self.script(whole))
            child = subprocess.Popen([sys.executable, self.script(cut, 0.05)], stdout=subprocess.DEVNULL)
            deadline = time.time() + 200
            while not (cut / "checkpoint.pt").exists() and time.time() < deadline:
                time.sleep(0.02)
            time.sleep(0.1)
            child.send_signal(signal.SIGKILL)
            child.wait()
            step = torch.load(cut / "checkpoint.pt", weights_only=False)["step"]
            self.assertTrue(5 <= step < 30, step)
            run(self.script(cut))
            self.assertEqual(self.losses(whole)[30], self.losses(cut)[30])
            self.assertTrue(torch.equal(self.weights(whole), self.weights(cut)))

    def test_two_processes(self):
        """What torchrun starts, with gloo: the weights are those of the mean gradient, and differ from one process's."""
        with tempfile.TemporaryDirectory() as tmp:
            one, two = Path(tmp) / "one", Path(tmp) / "two"
            subprocess.run([sys.executable, self.script(one)], check=True, capture_output=True, timeout=300)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            script, shared = self.script(two), {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            both = [subprocess.Popen([sys.executable, script], stdout=subprocess.DEVNULL,
                                     env={**os.environ, **shared, "RANK": str(r), "LOCAL_RANK": str(r), "OMP_NUM_THREADS": "1"})
                    for r in range(2)]
            self.assertEqual([child.wait(300) for child in both], [0, 0])
            model, twin = Toy(), [np.random.default_rng([1, r]) for r in range(2)]
            adam = loop.optimizer(model.parameters(), 1e-2, 0.01)
            for step in range(30):
                for group in adam.param_groups:
                    group["lr"] = loop.rate(step, (step + 1) / 30, 1e-2, 3)
                adam.zero_grad()
                (sum(toy_draw(model, rng)(step)[0] for rng in twin) / 2).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                adam.step()
            self.assertLess((self.weights(two) - model.layer.weight).abs().max().item(), 1e-6)
            self.assertGreater((self.weights(two) - self.weights(one)).abs().max().item(), 1e-4)
            self.assertEqual(len(torch.load(two / "checkpoint.pt", weights_only=False)["processes"]), 2)


if __name__ == "__main__":
    unittest.main()
