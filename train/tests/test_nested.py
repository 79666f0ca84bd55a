"""`nested`, LoRA and token keys against the stored cases and a second, naive implementation (numpy, loops)."""
from __future__ import annotations

import json
import math
import sys
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from banyan_train import check, golden, nested, nested_memory, sharedllm, tree  # noqa: E402
from tests.test_reference import PAPER, Naive  # noqa: E402


class NaiveNested(Naive):
    """`nested` told once more: one chunk, one group, one token at a time."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        if self.c.get("lower") == "lora":
            self.lower = "encoder."
            scale = self.c["lora_alpha"] / self.c["lora_rank"]
            for name in [n for n in self.w if n.startswith("model.") and "cross_attn" not in n]:
                change = name.replace("model.", "encoder.").replace(".weight", ".lora_%s.weight")
                both = [self.w.get(change % part) for part in "ab"]
                self.w[name.replace("model.", "encoder.")] = self.w[name] + (0 if both[0] is None else scale * both[1] @ both[0])
        self.banded = self.c.get("positions") == "banded"
        self.p = tree.parse_last_p(self.c["last_p"])

    def turned(self, x, fast, slow):
        """The fast pairs by one position, the others by another one."""
        a, b, out, half = self.rot(x, fast), self.rot(x, slow), x.copy(), self.d // 2
        for m in range(half):
            for at in (m, m + half):
                out[at] = (a if m < half // 2 else b)[at]
        return out

    def key(self, x, offset, chunk):
        return np.stack([self.turned(h, offset, chunk) if self.banded else self.rot(h, offset + chunk) for h in x])

    def query(self, x, chunks):
        size = self.c["chunk_size"]
        return np.stack([self.turned(h, size, chunks + 1) if self.banded else self.rot(h, chunks + 1) for h in x])

    def raw(self, ids):
        """Per layer (keys, values) of every token, and the states behind layer 0."""
        xs = [self.w[self.lower + "embed_tokens.weight"][i] for i in ids]
        out, first = [], None
        for i in range(self.m):
            xs, k, v = self.layer(xs, f"{self.lower}layers.{i}.")
            first = xs if first is None else first
            out.append((k, v))
        return out, first

    def token_scores(self, chunks, local):
        layer, n = self.c["selection_layer"], len(chunks)
        xs = [self.w["model.embed_tokens.weight"][i] for i in local]
        for i in range(layer):
            xs, _, _ = self.layer(xs, f"model.layers.{i}.")
        name = f"model.layers.{layer}."
        normed = [self.norm(x, name + "input_layernorm") for x in xs]
        k, v = ([self.heads(x, name + f"self_attn.{p}_proj") for x in normed] for p in "kv")
        q = np.stack([self.rot(h, len(xs) - 1) for h in self.heads(normed[-1], name + "self_attn.q_proj")])
        k = [np.stack([self.rot(h, t) for h in x]) for t, x in enumerate(k)]
        x = xs[-1] + self.w[name + "self_attn.o_proj.weight"] @ self.look(q, k, v)
        q = self.query(self.heads(self.norm(x, name + "cross_attn.layernorm"), name + "cross_attn.q_proj"), n)
        share, every = len(q) // len(k[0]), []
        for h in self.c.get("selection_heads") or range(len(q)):
            products = np.concatenate([[q[h] @ self.key(key, t, c)[h // share] for t, key in enumerate(self.raw(ids)[0][layer][0])]
                                       for c, ids in enumerate(chunks)])
            every.append((products - products.mean()) / products.std())
        flat, out = np.max(every, 0), []
        for ids in chunks:
            out.append(flat[: len(ids)])
            flat = flat[len(ids) :]
        return out

    def path(self, f0, f1, level, depth, score, best):
        """(nodes as (level, f0, f1), the scores of what is injected)"""
        if level == depth:
            return [(level, f0, f1)], [best]
        m = f0 + (f1 - f0) // 2
        if level == depth - 1:
            return [(level + 1, f0, m), (level + 1, m, f1)], [best]
        a, b = score(f0, m), score(m, f1)
        left = self.c["do_retrieval"] and a >= b
        nodes, scores = self.path(*((f0, m) if left else (m, f1)), level + 1, depth, score, max(a, b))
        other = (level + 1, m, f1) if left else (level + 1, f0, m)
        return ([*nodes, other] if left else [other, *nodes]), [*scores, min(a, b)]

    def memory(self, document, local):
        """Per layer the slots (key, value), in order."""
        size, n_slots = self.c["chunk_size"], self.c.get("slot_budget", 0)
        chunks = [document[i : i + size] for i in range(0, len(document), size)]
        tokens = self.token_scores(chunks, local) if self.c.get("selection") == "token_keys" else None
        query, plans = self.vector(local, "model."), []
        for number, ids in enumerate(chunks):
            n = len(ids)
            depth = min(self.c["segment_tree_depth"], int(math.log2(n)))
            b = tree.step_of(n // 2**depth, self.p)
            groups = -(-n // b)
            raw, first = self.raw(ids)

            def score(f0, f1):
                if tokens is not None:
                    return max(tokens[number][f0 * b : f1 * b])
                return self.similarity(self.norm(first[min(f1 * b, n) - 1], self.lower + "norm"), query)

            root = score(0, groups) if tokens is not None else -math.inf
            nodes, scores = self.path(0, groups, 0, depth, score, root)
            slots = [(f, min(f + 2 ** (depth - level), f1)) for level, f0, f1 in nodes
                     for f in range(f0, f1, 2 ** (depth - level))]
            ranked = [(score(f, f + 1), number, f) for f in range(groups)] if self.c.get("budget_unit") == "group" else []
            plans.append({"b": b, "n": n, "raw": raw, "slots": slots, "rank": max(scores), "groups": ranked})
        if self.c.get("budget_unit") == "group":
            best = sorted((g for p in plans for g in p["groups"]), key=lambda g: -g[0])[: int(n_slots)]
            for number, p in enumerate(plans):
                p["slots"] = sorted((f, f + 1) for _, c, f in best if c == number)
        elif n_slots:
            left, order = n_slots, sorted(plans, key=lambda p: -p["rank"])
            for i, p in enumerate(order):
                if len(p["slots"]) > left:
                    for q in order[i:]:
                        q["slots"] = []
                    break
                left -= len(p["slots"])
        out = []
        for i in range(self.m):
            layer = []
            for number, p in enumerate(plans):
                for f0, f1 in p["slots"]:
                    of_groups = []
                    for f in range(f0, f1):
                        at = range(f * p["b"], min((f + 1) * p["b"], p["n"]))
                        at = at if self.c["slot_kind"] == "mean" else at[:1]
                        of_groups.append([sum(x[t] for t in at) / len(at) for x in p["raw"][i]])
                    of_groups = of_groups if self.c["slot_kind"] == "mean" else of_groups[:1]
                    k, v = (sum(g[j] for g in of_groups) / len(of_groups) for j in (0, 1))
                    layer.append((self.key(k, f0 * p["b"], number), v))
            out.append(layer)
        return out, len(chunks)

    def logits(self, document, local):
        memory, n = self.memory(document, local)
        xs = [self.w["model.embed_tokens.weight"][i] for i in local]
        for i in range(self.c["num_hidden_layers"]):
            name = f"model.layers.{i}."

            def inject(x, name=name, i=i):
                q = self.query(self.heads(self.norm(x, name + "cross_attn.layernorm"), name + "cross_attn.q_proj"), n)
                return self.w[name + "cross_attn.o_proj.weight"] @ self.look(q, *map(list, zip(*memory[i])))

            xs, _, _ = self.layer(xs, name, inject if i < self.m else None)
        head = self.w["model.embed_tokens.weight" if self.c["tie_word_embeddings"] else "lm_head.weight"]
        return np.stack([head @ self.norm(x, "model.norm") for x in xs])


CASES = sorted(p for p in PAPER.iterdir() if p.name.startswith("n"))


class Nested(unittest.TestCase):
    def test_naive(self):
        self.assertGreaterEqual(len(CASES), 8)
        for folder in CASES:
            with self.subTest(folder.name):
                case = check.Case(folder)
                have = NaiveNested(folder).logits(case.inputs["document_ids"], case.inputs["input_ids"][0])
                self.assertLess(np.abs(have - case.arrays["logits"].numpy()).max(), 1e-5)

    def test_powers_of_two_are_papers_spans(self):
        for last_p in (8, 3, 0.25, -1):
            (chunk,) = nested.cut(64, 64, 3, last_p)
            paths = [(lambda c, level, a, b, bits=bits: bits >> level & 1) for bits in range(4)]
            for bits, choose in enumerate(paths):
                have = [chunk.node(s.span) for s in nested.walk(chunk, None, choose)]
                levels = tree.grow_paper(tree.chunks_of(64, 64), 3, lambda level, pairs: [bits >> level & 1])
                want = sorted((n.start, n.end) for level in levels for n in level.nodes)
                self.assertEqual([(n.start, n.end) for n in have], want)

    def test_every_length(self):
        """Groups tile the chunk, nodes tile the groups, slots tile the nodes; nothing is empty."""
        for n in range(1, 200):
            for depth in range(1, 6):
                for last_p in (1, 3, 0.3, -1):
                    (chunk,) = nested.cut(n, n, depth, last_p)
                    self.assertEqual(chunk.depth, min(depth, int(math.log2(n))))  # ceil(n / b) >= 2^d always holds
                    nodes = nested.walk(chunk, None, lambda c, level, a, b: level % 2)
                    ends = [(chunk.node(s.span).start, chunk.node(s.span).end) for s in nodes]
                    self.assertEqual((ends[0][0], ends[-1][1]), (0, n))
                    self.assertTrue(all(a[1] == b[0] for a, b in zip(ends, ends[1:])))
                    self.assertTrue(all(s.slots and all(b > a for a, b in s.slots) for s in nodes))

    def test_budget(self):
        self.assertEqual(nested.within_budget([10, 10, 10, 10], [1, 3, 2, 3], 25), {1, 3})
        self.assertEqual(nested.within_budget([10, 10, 3], [3, 2, 1], 14), {0})  # the next by rank does not fit: the end
        self.assertEqual(nested.within_budget([10], [1], 9), set())

    @torch.no_grad()
    def test_batched_reading(self):
        """The path of training gives the same logits as the reference that reads one document, at any depth."""
        for name in ("n01-strided", "n02-mean-banded-token-keys"):
            case = check.Case(PAPER / name)
            for depth in (1, 2, 3):
                case.model.tree = replace(case.model.tree, depth=depth)
                bits = torch.randint(0, 2, (depth - 1, 1, 3), generator=torch.Generator().manual_seed(depth))
                memory = nested_memory.read(case.model, case.document, case.local, 64,
                                            choose=lambda c, level, a, b: int(bits[level, 0, c.number]))
                batched = case.model.read_batch(case.document.view(1, 3, 64), bits, torch.arange(3)[None], torch.tensor([3]))
                want = case.model(case.local[None], memory)
                self.assertLess((case.model(case.local[None], batched) - want).abs().max().item(), 1e-9)

    def test_mutations_are_noticed(self):
        """Another offset, pooling or chunk index gives other logits, so that the stored cases can tell them apart."""
        case = check.Case(PAPER / "n03-odd-chunks-token-keys")
        with torch.no_grad():
            memory = case.read()
            want = case.model(case.local[None], memory)
            for mutate in (lambda m: m.row.add_(1), lambda m: [k.copy_(k.roll(1, 2)) for k in m.keys],
                           lambda m: [v[:, :, :-1].copy_(v[:, :, 1:].clone()) for v in m.values]):
                other = case.read()
                mutate(other)
                self.assertGreater((case.model(case.local[None], other) - want).abs().max().item(), 1e-2)


class Lora(unittest.TestCase):
    def setUp(self):
        self.case = check.Case(PAPER / "n07-lora-shared-base")

    @torch.no_grad()
    def test_is_an_own_lower_model_with_the_sum(self):
        case = self.case
        want = case.model(case.local[None], case.read())
        config = {k: v for k, v in case.config.items() if not k.startswith("lora")} | {"lower": "own"}
        naive = NaiveNested(case_folder := PAPER / "n07-lora-shared-base")
        self.assertTrue(case_folder.is_dir())
        weights = {k: torch.tensor(v) for k, v in naive.w.items() if "lora" not in k}
        weights = {k: v for k, v in weights.items() if not k.startswith("encoder.layers.2")}
        own = sharedllm.build({**config, "encoder_config": {"num_hidden_layers": 2}}, weights, torch.float64)
        memory = own.read(case.document, case.local, case.chunk_size)
        self.assertLess((own(case.local[None], memory) - want).abs().max().item(), 1e-9)

    def test_only_the_changes_are_trained(self):
        names = [n for n, _ in self.case.model.encoder.named_parameters()]
        self.assertEqual(len(names), 2 * 2 * 7)
        self.assertTrue(all(".lora_" in n for n in names))

    def test_projections_may_be_missing(self):
        weights = {k: v for k, v in self.case.model.state_dict().items() if "gate_proj.lora" not in k}
        model = sharedllm.build(self.case.config, weights, torch.float64)
        self.assertEqual(model.encoder.layers[0].mlp.gate_proj.lora_b.weight.abs().max().item(), 0)


class Refused(unittest.TestCase):
    def test_banded_is_nested_only(self):
        config = golden.config_of(next(p for p in golden.CASES if p.name == "p03-depth3-strided"))
        with self.assertRaises(ValueError):
            sharedllm.build({**config, "positions": "banded"}, {}, torch.float64)


if __name__ == "__main__":
    unittest.main()
