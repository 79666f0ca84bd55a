"""The PyTorch reference against the stored `paper` cases and against a second, naive implementation (numpy, loops)."""
from __future__ import annotations

import json
import math
import sys
import unittest
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from banyan_train import check, tensors, tree  # noqa: E402
from banyan_train.bpe import Tokenizer, train  # noqa: E402

PAPER = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "paper"


class Naive:
    """`paper` told once more: one token, one head, one slot at a time."""

    def __init__(self, folder: Path):
        self.c = json.loads((folder / "config.json").read_text())
        self.w = {k: v.double().numpy() for k, v in tensors.read(folder / "model.safetensors").items()}
        self.d = self.c["hidden_size"] // self.c["num_attention_heads"]
        self.lower = "model." if self.c.get("encoder_weights") == "shared" else "encoder."
        self.m = -self.c["num_cross_attn_layers"]

    def norm(self, x, name):
        return x / math.sqrt((x * x).mean() + self.c["rms_norm_eps"]) * self.w[name + ".weight"]

    def rot(self, x, t):
        out, half = x.copy(), self.d // 2
        for i in range(half):
            angle = t * self.c["rope_theta"] ** (-2 * i / self.d)
            a, b = x[i], x[i + half]
            out[i], out[i + half] = a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)
        return out

    def heads(self, x, name):
        return (self.w[name + ".weight"] @ x).reshape(-1, self.d)

    def look(self, q, keys, values):
        """q [h,d] against lists of [g,d]."""
        out, share = [], len(q) // len(keys[0])
        for head, query in enumerate(q):
            g = head // share
            s = np.array([query @ k[g] / math.sqrt(self.d) for k in keys])
            p = np.exp(s - s.max())
            out.append(sum(a * v[g] for a, v in zip(p / p.sum(), values)))
        return np.concatenate(out)

    def layer(self, xs, prefix, inject=None):
        """One decoder layer over all tokens; also gives unrotated keys and values."""
        n = [self.norm(x, prefix + "input_layernorm") for x in xs]
        k = [self.heads(x, prefix + "self_attn.k_proj") for x in n]
        v = [self.heads(x, prefix + "self_attn.v_proj") for x in n]
        turned = [np.stack([self.rot(h, t) for h in x]) for t, x in enumerate(k)]
        out = []
        for t, x in enumerate(xs):
            q = np.stack([self.rot(h, t) for h in self.heads(n[t], prefix + "self_attn.q_proj")])
            x = x + self.w[prefix + "self_attn.o_proj.weight"] @ self.look(q, turned[: t + 1], v[: t + 1])
            if inject is not None:
                x = x + inject(x)
            y = self.norm(x, prefix + "post_attention_layernorm")
            gate, up = self.w[prefix + "mlp.gate_proj.weight"] @ y, self.w[prefix + "mlp.up_proj.weight"] @ y
            out.append(x + self.w[prefix + "mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up))
        return out, k, v

    def slots(self, ids):
        """Per layer, (key rotated in the node, value) of every slot."""
        xs, n = [self.w[self.lower + "embed_tokens.weight"][i] for i in ids], len(ids)
        step = tree.step_of(n, tree.parse_last_p(self.c["last_p"]))
        out = []
        for i in range(self.m):
            xs, k, v = self.layer(xs, f"{self.lower}layers.{i}.")
            layer = []
            for o in range(0, n, step):
                group = range(o, min(o + step, n)) if self.c["slot_kind"] == "mean" else [o]
                key, value = sum(k[t] for t in group) / len(group), sum(v[t] for t in group) / len(group)
                layer.append((np.stack([self.rot(h, o) for h in key]), value))
            out.append(layer)
        return out

    def vector(self, ids, prefix):
        xs = [self.w[prefix + "embed_tokens.weight"][i] for i in ids]
        return self.norm(self.layer(xs, prefix + "layers.0.")[0][-1], prefix + "norm")

    def similarity(self, a, b):
        return a @ b / math.sqrt(max((a @ a) * (b @ b), 1e-12))

    def nodes(self, ids, query, depth):
        """The nodes of one chunk, in the order of its text."""
        if depth == 0:
            return [ids]
        left, right = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        if depth == 1:
            return [left, right]
        go_left = self.c["do_retrieval"] and (
            self.similarity(self.vector(left, self.lower), query) >= self.similarity(self.vector(right, self.lower), query))
        if go_left:
            return [*self.nodes(left, query, depth - 1), right]
        return [left, *self.nodes(right, query, depth - 1)]

    def logits(self, document, local, query_length):
        size = self.c["chunk_size"]
        chunks = [document[i : i + size] for i in range(0, len(document), size)]
        query = self.vector(local[:query_length], "model.")
        memory = [[] for _ in range(self.m)]
        for number, chunk in enumerate(chunks):
            depth = min(self.c["segment_tree_depth"], int(math.log2(len(chunk))))
            for node in self.nodes(chunk, query, depth):
                for i, layer in enumerate(self.slots(node)):
                    memory[i] += [(np.stack([self.rot(h, number) for h in k]), v) for k, v in layer]
        xs = [self.w["model.embed_tokens.weight"][i] for i in local]
        for i in range(self.c["num_hidden_layers"]):
            name = f"model.layers.{i}."

            def inject(x, name=name, i=i):
                q = self.heads(self.norm(x, name + "cross_attn.layernorm"), name + "cross_attn.q_proj")
                q = np.stack([self.rot(h, len(chunks) + 1) for h in q])
                return self.w[name + "cross_attn.o_proj.weight"] @ self.look(q, *map(list, zip(*memory[i])))

            xs, _, _ = self.layer(xs, name, inject if i < self.m else None)
        head = self.w["model.embed_tokens.weight" if self.c["tie_word_embeddings"] else "lm_head.weight"]
        return np.stack([head @ self.norm(x, "model.norm") for x in xs])


class Paper(unittest.TestCase):
    def test_stored_cases(self):
        folders = sorted(p for p in PAPER.iterdir() if p.is_dir())
        self.assertGreaterEqual(len(folders), 10)
        for folder in folders:
            with self.subTest(folder.name):
                for name, worst in check.check_case(folder).items():
                    self.assertLess(worst, 1e-5, name)

    def test_naive(self):
        for name in ("p04-depth4-ragged-deep-lower", "p05-last-chunk-of-one", "p06-odd-spans", "p11-query-length-tied"):
            with self.subTest(name):
                case = check.Case(PAPER / name)
                i = case.inputs
                have = Naive(PAPER / name).logits(i["document_ids"], i["input_ids"][0], i["query_length"])
                want = case.arrays["logits"].numpy()
                self.assertLess(np.abs(have - want).max(), 1e-5)

    def test_batched_reading(self):
        """The path of training gives the same logits as the reference that reads one document."""
        case = check.Case(PAPER / "p02-three-chunks-mean")
        model, memory = case.model, case.read()
        want = model(case.local[None], memory)
        path = torch.tensor([[memory.levels[0].chosen]])
        batched = model.read_batch(case.document.view(1, 3, 64), path, torch.arange(3)[None], torch.tensor([3]))
        self.assertLess((model(case.local[None], batched) - want).abs().max().item(), 1e-9)


class Tree(unittest.TestCase):
    def test_nothing_is_dropped(self):
        for length in range(1, 70):
            for depth in range(1, 6):
                chunks = tree.chunks_of(length, 33)
                levels = tree.grow_paper(chunks, depth, lambda level, pairs: [level % 2] * len(pairs))
                nodes = sorted((n.start, n.end) for level in levels for n in level.nodes)
                self.assertEqual(nodes[0][0], 0)
                self.assertEqual(nodes[-1][1], length)
                self.assertTrue(all(a[1] == b[0] for a, b in zip(nodes, nodes[1:])))

    def test_kept(self):
        self.assertEqual(tree.kept(25, 8), 8)
        self.assertEqual(tree.kept(5, 8), 5)
        self.assertEqual(tree.kept(3, 0.2), 1)
        self.assertEqual(tree.kept(7, -1), 7)
        self.assertEqual(tree.parse_last_p("32,32"), 32)
        self.assertEqual(tree.parse_last_p("0.25"), 0.25)


class Bpe(unittest.TestCase):
    def test_round_trip(self):
        tokenizer = train(["the falcon is the violet one, isn't it? " * 3], 300, ["falcon", "violet"])
        text = "the falcon's  é violet\n\t- 漢字 12"
        self.assertEqual(tokenizer.decode(tokenizer.encode(text)), text)
        self.assertEqual(len(tokenizer.encode(" falcon")), 1)


if __name__ == "__main__":
    unittest.main()
