"""Adapters' samples and choices, matching, the curriculum, and everything in one small run."""
from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

TRAIN = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TRAIN))

from banyan_train import ablate, adapter, base, bases, check, config, data, export, llama, matching, nested, presets, samples  # noqa: E402
from banyan_train.__main__ import parser  # noqa: E402
from banyan_train.config import LlamaConfig  # noqa: E402
from banyan_train.grains import Grains  # noqa: E402
from banyan_train.memory import TreeConfig  # noqa: E402
from banyan_train.synthetic import Lookups  # noqa: E402
from tests.test_reference import PAPER  # noqa: E402
from tests.test_data import corpus  # noqa: E402

TINY = LlamaConfig(400, 32, 48, 4, 4, 2, max_position_embeddings=128)


def tiny_base() -> bases.Base:
    model = llama.Llama(TINY)
    llama.initialise(model, torch.Generator().manual_seed(1), 0.2)
    return bases.Base(TINY, model.state_dict(), bases.Ids(400, 0), Path("tiny"))


def texts(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"any": rng.integers(5, 400, 20_000).astype(np.uint16)}


def options(*words: str):
    return parser().parse_args(["sharedllm", "--layers", "2", "--chunk-size", "64", "--last-p", "8", "--local-tokens", "60", "--batch", "600",
                                "--longest", "256", "--mix", "200", "--mix-after", "1", "--selection", "cosine", *words])


class Samples(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(5)
        self.documents = samples.Documents(data.Slices(texts(rng), rng), Lookups(bases.Ids(400, 0), rng, {"fact": 1, "passkey": 1}), rng, 80)

    def test_answers_are_in_the_chunks(self):
        for _ in range(30):
            row = self.documents.lookup(4, 64)
            self.assertEqual((row["chunks"].shape, row["local"].shape), ((4, 64), (80,)))
            at = np.flatnonzero(row["answers"] & (row["where"] >= 0))
            first = [i for i in at if not row["answers"][i - 1]]
            for i in first:
                chunk, offset = row["where"][i], row["offset"][i]
                self.assertEqual(row["chunks"][chunk, offset], row["local"][i])
            self.assertTrue((row["weight"][row["answers"]] > 1).all())

    def test_paths_lead_to_facts(self):
        rng = np.random.default_rng(2)
        rows = [self.documents.lookup(3, 64) for _ in range(6)]
        paths = samples.paths_of(rows, 3, rng, 1.0)
        self.assertEqual(paths.shape, (2, 6, 3))
        for b, row in enumerate(rows):
            at = np.flatnonzero(row["answers"] & (row["where"] >= 0))
            last = {row["where"][i]: i for i in at}  # of several facts in a chunk the last one's path stays
            for i in last.values():
                level = samples.levels_of(paths, np.array([b]), row["where"][[i]], row["offset"][[i]], 64)
                self.assertEqual(level.tolist(), [3])

    def test_levels_are_those_of_the_tree(self):
        (chunk,) = nested.cut(64, 64, 3, 8)
        for bits in range(4):
            path = [bits & 1, bits >> 1]
            nodes = nested.walk(chunk, None, lambda c, level, a, b: path[level])
            for offset in range(64):
                want = next(s.span.level for s in nodes if chunk.node(s.span).start <= offset < chunk.node(s.span).end)
                have = samples.levels_of(np.array(path)[:, None, None], np.array([0]), np.array([0]), np.array([offset]), 64)
                self.assertEqual(have.tolist(), [want])


class Choices(unittest.TestCase):
    """`Grains`, which training and measuring use, against the reference that reads one document."""

    @torch.no_grad()
    def test_own_paths(self):
        for name in ("n01-strided", "n02-mean-banded-token-keys", "p02-three-chunks-mean", "p03-depth3-strided"):
            with self.subTest(name):
                case = check.Case(PAPER / name)
                grains = Grains(case.model, case.document.view(3, 64), case.model.tree.depth)
                memory = grains.memory(grains.pick(grains.own(case.local)), torch.arange(3)[None], torch.tensor([3]))
                have = case.model(case.local[None], memory)[0]
                self.assertLess((have - case.arrays["logits"]).abs().max().item(), 1e-5)

    @torch.no_grad()
    def test_best_groups(self):
        case = check.Case(PAPER / "n02-mean-banded-token-keys")
        case.model.tree = replace(case.model.tree, slot_budget=20, budget_unit="group")
        want = case.model(case.local[None], case.read())
        grains = Grains(case.model, case.document.view(3, 64), 3)
        self.assertLess((case.model(case.local[None], grains.best_groups(case.local, 20)) - want).abs().max().item(), 1e-9)

    @torch.no_grad()
    def test_controls(self):
        case = check.Case(PAPER / "n01-strided")
        grains = Grains(case.model, case.document.view(3, 64), 3)
        self.assertEqual(grains.per_chunk, 32)
        self.assertEqual(grains.uniform()[0][0].shape[2], 32)
        self.assertEqual(grains.unthinned()[0][0].shape[2], 64)
        have = grains.memory(grains.uniform(), torch.arange(3)[None], torch.tensor([3]))
        case.model.tree = replace(case.model.tree, depth=1, last_p="16")  # 32 slots of two tokens each, no path
        self.assertLess((case.model(case.local[None], case.read()) - case.model(case.local[None], have)).abs().max().item(), 1e-9)


class Training(unittest.TestCase):
    def trainer(self, *words: str) -> adapter.Trainer:
        return adapter.Trainer(options(*words), tiny_base(), texts(np.random.default_rng(1)), "cpu")

    def test_what_is_trained(self):
        for lower, want in (("shared", []), ("lora", ["lora_a", "lora_b"]), ("own", ["embed_tokens", "layers"])):
            names = [n for n, p in self.trainer("--lower", lower).model.named_parameters() if p.requires_grad]
            self.assertTrue(all("cross_attn" in n or n.startswith("encoder.") for n in names))
            for part in want:
                self.assertTrue(any(n.startswith("encoder.") and part in n for n in names), part)
            self.assertEqual(any(n.startswith("encoder.") for n in names), lower != "shared")

    def test_every_kind_takes_a_step(self):
        """The loss has a gradient everywhere it should, whatever the options."""
        for words in (["--semantics", "nested", "--depth", "3", "--random-depth"], ["--semantics", "paper"],
                      ["--semantics", "nested", "--lower", "lora", "--positions", "banded", "--kinds", "all"],
                      ["--semantics", "nested", "--lower", "shared", "--slot-kind", "strided", "--checkpointing"]):
            with self.subTest(" ".join(words)):
                trainer = self.trainer(*words)
                for step in range(4):
                    loss, numbers, tokens = trainer.draw(step)
                    self.assertTrue(torch.isfinite(loss) and tokens > 0)
                loss.backward()
                trained = [n for n, p in trainer.model.named_parameters() if p.requires_grad and "layers.1.cross_attn.q_proj" in n]
                self.assertGreater(dict(trainer.model.named_parameters())[trained[0]].grad.abs().max().item(), 0)
                frozen = trainer.model.model.layers[0].mlp.up_proj.weight
                self.assertIsNone(frozen.grad)

    def test_uneven_chunks_are_refused(self):
        with self.assertRaises(SystemExit):
            adapter.sizes_of(TreeConfig(layers=2, depth=3, last_p="8", chunk_size=100, semantics="nested"), 3)

    @torch.no_grad()
    def test_round_trip(self):
        for lower in ("shared", "lora", "own"):
            with self.subTest(lower), tempfile.TemporaryDirectory() as tmp:
                trainer, own = self.trainer("--semantics", "nested", "--lower", lower), tiny_base()
                for p in trainer.model.parameters():
                    if p.requires_grad:
                        p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.05)
                export.adapter(trainer.model, Path(tmp), own.described(), torch.float32)
                again = export.load(own, Path(tmp))
                keys = json.loads((Path(tmp) / "adapter_config.json").read_text())
                self.assertEqual((keys["lower"], keys["semantics"], keys["base"]["fingerprint"]), (lower, "nested", own.fingerprint()))
                document, local = torch.arange(5, 200), torch.arange(7, 30)
                both = [m(local[None], m.read(document, local, 64)) for m in (trainer.model, again)]
                self.assertLess((both[0] - both[1]).abs().max().item(), 1e-5)

    def test_bank_is_kept(self):
        trainer, other = self.trainer("--semantics", "nested"), self.trainer("--semantics", "nested")
        for step in range(4):
            trainer.draw(step)
        buffer = io.BytesIO()
        torch.save(trainer.bank.state_dict(), buffer)
        buffer.seek(0)
        other.bank.load_state_dict(torch.load(buffer, weights_only=False))
        other.rng.bit_generator.state = trainer.rng.bit_generator.state
        self.assertEqual(trainer.draw(9)[0].item(), other.draw(9)[0].item())


class Matching(unittest.TestCase):
    def test_finds_the_planted_head(self):
        model = base.fresh("tiny", 1, 2048, True).eval()
        rng = np.random.default_rng(1)
        source = data.Slices({"any": rng.integers(300, 2048, 30_000).astype(np.uint16)}, rng)
        found = matching.measure(model, bases.Ids(2048, 0), source, rng, 64, 128)
        result = matching.choose(found)
        self.assertEqual((result["selection_layer"], result["selection_heads"], result["layers"], result["good"]), (1, [0], 3, True))
        self.assertIn("| 1 | ", matching.table(found))

    def test_every_size_can_be_planted(self):
        rng = np.random.default_rng(2)
        for size, c in config.SIZES.items():
            source = data.Slices({"any": rng.integers(300, c.vocab_size, 30_000).astype(np.uint16)}, rng)
            found = matching.measure(base.fresh(size, 1, c.vocab_size, True).eval(), bases.Ids(c.vocab_size, 0), source, rng, 16, 96)
            self.assertGreater(found[1, 0].item(), 0.75, size)  # of 16: chance finds none

    def test_none_is_good(self):
        found = torch.tensor([[0.1, 0.2], [0.3, 0.1], [0.0, 0.0]])
        result = matching.choose(found)
        self.assertEqual((result["good"], result["selection_layer"]), (False, 1))


class Curriculum(unittest.TestCase):
    def test_rows_grow_when_answers_are_right(self):
        rng = np.random.default_rng(1)
        c = base.Curriculum(data.Slices(texts(rng), rng), Lookups(bases.Ids(400, 0), rng), 512, rng)
        self.assertEqual({len(r.ids) for r in c.rows(1000)}, {64})
        for _ in range(40):
            c.learned(0.5)
        self.assertEqual((c.phase, c.passed), (0, False))
        for _ in range(60):
            c.learned(0.8)
        self.assertEqual((c.phase, c.passed), (3, False))  # induction over few ids is there, look-ups are asked for next
        for _ in range(20):
            c.learned(0.8)
        self.assertEqual((c.phase, c.passed), (3, False))
        for _ in range(20):
            c.learned(0.95)
        self.assertEqual((c.phase, c.passed), (4, True))
        self.assertEqual({len(r.ids) for r in c.rows(1000)}, {96})

    def test_whole_answers_are_counted(self):
        """A model that knows every token but the last of each pass key answers facts of one token, and no pass key."""
        valid, tok = texts(np.random.default_rng(1)), bases.Ids(400, 0)

        class Knows:
            config = TINY

            def __init__(self, forgets: int):
                self.forgets = forgets

            def __call__(self, ids):
                right = torch.nn.functional.one_hot(ids.roll(-1, 1), 400).float()
                wrong = torch.nn.functional.one_hot(ids.roll(-1, 1) * 0 + 1, 400) * 2.0
                return right + wrong * (ids.roll(-2, 1) == self.forgets)[..., None]  # the last token before the ending

        end = Lookups(tok, np.random.default_rng(1)).endings[0][0]
        share = lambda model: base.answered(model, tok, valid, np.random.default_rng(2), "cpu", {"passkey": 1.0}, 1, 4)
        self.assertEqual((share(Knows(-1)), share(Knows(end))), (1.0, 0.0))

    def test_a_weak_base_is_refused(self):
        valid = texts(np.random.default_rng(1))
        with self.assertRaises(SystemExit) as refused:
            adapter.require_lookup(tiny_base(), valid, "cpu")
        self.assertIn("95 %", str(refused.exception))


class Variants(unittest.TestCase):
    def test_every_variant_can_be_trained(self):
        """Beside what our adapters are trained with: the trees are valid and halve evenly."""
        given = parser().parse_args(["ablate", "--semantics", "nested", "--layers", "3", "--depth", "3", "--last-p", "16", "--selection", "cosine"])
        base = tiny_base()
        for name, changes in ablate.VARIANTS.items():
            with self.subTest(name):
                own = ablate.changed(given, changes)
                if own is not None:
                    tree = adapter.tree_of(own, base)
                    tree.check()
                    self.assertTrue(adapter.sizes_of(tree, own.depth))
        self.assertIsNone(ablate.changed(given, {"depth": 3}))


class Everything(unittest.TestCase):
    def test_presets(self):
        """The options of every stage are options, and the adapters' chunks can be halved as they say."""
        for name, preset in presets.PRESETS.items():
            args = parser().parse_args(["all", "--preset", name])
            folders = {k: Path("models") / preset["model"] for k in ("model", "adapter", "focus")}
            for stage in presets.STAGES:
                with self.subTest(name, stage=stage):
                    own = presets.arguments(stage, args, folders)
                    self.assertEqual(own.command, stage)
            own = presets.arguments("sharedllm", args, folders)
            tree = TreeConfig(layers=3, depth=own.depth, last_p=own.last_p, chunk_size=own.chunk_size, semantics=own.semantics)
            for depth in range(1, own.depth + 1):
                self.assertEqual(adapter.sizes_of(tree, depth)[0], own.chunk_size)
            size = config.SIZES[presets.arguments("base", args, folders).size]
            self.assertEqual(size.vocab_size, presets.arguments("tokenizer", args, folders).size)

    def test_smoke(self):
        """`all --preset smoke`, cut by --minutes once and gone on with; what it leaves can be loaded."""
        with tempfile.TemporaryDirectory() as tmp:
            folder = Path(tmp)
            (folder / "data").mkdir()
            corpus(folder / "data")
            command = [sys.executable, "-m", "banyan_train", "all", "--preset", "smoke", "--data", str(folder / "data"), "--work",
                       str(folder / "work"), "--output", str(folder / "models")]
            run = lambda *more: subprocess.run([*command, *more], cwd=TRAIN, check=True, capture_output=True, text=True, timeout=900).stdout
            self.assertIn("call again", run("--minutes", "0.12"))
            out = run()
            self.assertIn("--- gguf", out)
            own = bases.load(folder / "models" / "banyan-smoke")
            same = bases.load(folder / "models" / "banyan-smoke.gguf")
            self.assertEqual((own.fingerprint(), own.tokenizer.tokens), (same.fingerprint(), same.tokenizer.tokens))
            model = export.load(own, folder / "models" / "banyan-smoke-adapter")
            self.assertEqual((model.tree.semantics, model.tree.selection, model.lower_kind), ("nested", "token_keys", "own"))
            export.load_focus(own, folder / "models" / "banyan-smoke-focus")
            numbers = json.loads((folder / "models" / "banyan-smoke-adapter" / "eval.json").read_text())
            self.assertIn("recall1", numbers["chunks"]["2"]["plain"])
            ablate = ["ablate", "--semantics", "nested", "--layers", "2", "--chunk-size", "64", "--last-p", "8", "--local-tokens", "80", "--steps", "2",
                      "--batch", "600", "--longest", "128", "--chunks", "2", "--documents", "1", "--facts", "2", "--allow-weak-base",
                      "--base", str(folder / "models" / "banyan-smoke"), "--data", str(folder / "data"), "--work", str(folder / "work"),
                      "--megabytes", "0.5", "--workers", "1", "--output", str(folder / "ablation")]
            for only in ("as given", "as given,cosine,nested"):  # `nested` changes nothing here and gets no row
                subprocess.run([sys.executable, "-m", "banyan_train", *ablate, "--only", only], cwd=TRAIN, check=True, capture_output=True, timeout=300)
            rows = json.loads((folder / "ablation" / "ablation.json").read_text())["rows"]
            self.assertEqual(list(rows), ["as given", "cosine"])
            self.assertNotIn("groups", rows["cosine"]["2"])
            self.assertIn("| cosine |", (folder / "ablation" / "ablation.md").read_text())
            self.assertIn("nothing to estimate", run("--dry-run", "--model", "other"))


if __name__ == "__main__":
    unittest.main()
