"""The training loop, its precision and memory, several processes."""
from __future__ import annotations

import contextlib
import io
import json
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

from banyan_train import llama, loop  # noqa: E402
from tests.test_bases import KINDS, random_model  # noqa: E402


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
            longer, _ = self.run_toy(Path(tmp) / "two", steps=50)  # ten steps more are
            self.assertFalse(torch.equal(longer.layer.weight, want.layer.weight))
            self.assertEqual(torch.load(Path(tmp) / "two" / "checkpoint.pt", weights_only=False)["step"], 50)

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
            model = random_model(KINDS["llama"])
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

    def test_causal_attention_in_blocks(self):
        generator = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.randn(*shape, generator=generator).double()
        for length, total in ((8, 8), (9, 9), (9, 13)):
            q, k, v = draw(2, 6, length, 4), draw(2, 2, total, 4), draw(2, 2, total, 4)
            seen = torch.ones(2, length, total, dtype=torch.bool).tril(total - length)
            with mock.patch.object(llama, "BLOCK", 4):
                have = llama.attend(q, k, v, True)
            self.assertLess((have - llama.attend(q, k, v, False, seen)).abs().max().item(), 1e-12)

    def test_bfloat16(self):
        model, ids = random_model(KINDS["qwen3"]), torch.tensor([[3, 8, 60, 7]])
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
from test_loop import Toy, toy_draw
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
