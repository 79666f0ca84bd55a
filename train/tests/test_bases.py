"""Files of bases of every family, and adapters on them."""
from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

import torch

TRAIN = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TRAIN))

from banyan_train import adapter, bases, config, export, focusllm, gguf, llama, tensors  # noqa: E402
from banyan_train.memory import TreeConfig  # noqa: E402

SHARED = TRAIN.parents[1] / "shared" / "models" / "stories260K-f32.gguf"
BIASED = dict(vocab_size=70, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1)
KINDS = {
    "llama": config.LlamaConfig(**BIASED, max_position_embeddings=64),
    "untied": config.LlamaConfig(**BIASED, tie_word_embeddings=False, rope=config.Rope(1e5, "linear", 4.0, 16), rope_theta=1e5),
    "yarn": config.LlamaConfig(**BIASED, rope=config.Rope(1e4, "yarn", 4.0, 128), rope_theta=1e4),
    "qwen2": config.LlamaConfig(**BIASED, model_type="qwen2", qkv_bias=True),
    "qwen3": config.LlamaConfig(**BIASED, model_type="qwen3", qk_norm=True, head_dim=16),
}


def random_model(c: config.LlamaConfig) -> llama.Llama:
    model = llama.Llama(c)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (1 if p.dim() == 1 else 0))
    return model.eval()


class Bases(unittest.TestCase):
    @torch.no_grad()
    def test_files_of_every_family(self):
        """Hugging Face directory, its shards and GGUF give the same logits as the model that was written."""
        ids = torch.tensor([[5, 9, 33, 2, 61, 8, 8, 40]])
        for name, c in KINDS.items():
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
        for name, c in KINDS.items():
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


if __name__ == "__main__":
    unittest.main()
