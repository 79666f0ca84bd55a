"""FocusLLM's stored cases, made with the authors' code, against the reference in float32: the largest differences."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Sequence

import torch

from . import focus_sample, focusllm, tensors
from .check import difference

BOUNDS = {"candidates": 1e-4, "raw": 1e-4, "loss": 1e-4, "gradient": 1e-5, "float64": 1e-9}  # all others: 2e-4


def same(have, want, what: str) -> None:
    assert have == want, f"other {what}"


class Replay:
    """Draws what a case recorded, and insists on the same options in the same order."""

    def __init__(self, draws: list[dict]):
        self.left = list(draws)

    def take(self, options: Sequence[int]) -> int:
        draw = self.left.pop(0)
        same(list(options), draw["options"], "options of a draw")
        return draw["value"]

    def randint(self, first: int, last: int) -> int:
        return self.take([first, last])

    def choice(self, options: Sequence[int]) -> int:
        return self.take(options)


class Case:
    def __init__(self, folder: Path):
        read = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
        self.keys, self.inputs, self.expected = read("config.json"), read("inputs.json"), read("expected.json")
        self.state, self.arrays = tensors.read(folder / "model.safetensors"), tensors.read(folder / "expected.safetensors")

    def model(self, dtype: torch.dtype = torch.float32) -> focusllm.FocusLlama:
        return focusllm.build(self.keys, self.state, dtype).eval()

    def cutter(self) -> focusllm.Cutter:
        i = self.inputs
        return focusllm.Cutter(i["local_window"], i["memory_stride"], i["chunking_threshold"], i["query_cap"],
                               i["bos_token_id"])


def compare_candidates(out: dict[str, float], case: Case, session: focusllm.Session, step: int) -> None:
    """Candidate and raw KV of step 0 and 1, where they are stored."""
    note = lambda name, have, want: out.update({name: max(out.get(name, 0), difference(have, want))})
    for layer in range(len(session.model.model.layers)):
        for name in "kv":
            stored = lambda what: case.arrays.get(f"step{step}.layer{layer}.{what}_{name}")
            want = stored("cand")
            if want is not None:
                candidates = session.latest.keys if name == "k" else session.latest.values
                note("candidates", candidates[layer][:, :, 0], want)
            for chunk in range(len(case.expected["chunk_ranges"])):
                rows = (session.raw.keys if name == "k" else session.raw.values)[layer][chunk].transpose(0, 1)
                rows = rows[session.raw.positions[chunk] >= 0]  # padding of short chunks left out
                if (want := stored(f"chunk{chunk}.raw")) is not None:
                    note("raw", rows, want)
                if (want := stored(f"chunk{chunk}.raw_appended")) is not None:
                    note("raw", rows[-1:], want)


def check_generate(case: Case) -> dict[str, float]:
    e, inputs, model = case.expected, case.inputs, case.model()
    prompt, count = inputs["prompt"], inputs["max_new_tokens"]
    cut = case.cutter().cut(prompt)
    same([prompt[a:b] for a, b in e["chunk_ranges"]], cut.chunks, "chunks")
    same(cut.local, e["local_tokens_step0"], "local text")
    if cut.chunks:
        same([[*c, *cut.query] for c in cut.chunks], e["chunk_tokens_step0"], "chunk passes")
    out: dict[str, float] = {}
    session = focusllm.Session(model, cut)
    rows, tokens = [session.logits[-1]], []
    if "step0.local_logits" in case.arrays:
        out["local"] = difference(session.logits, case.arrays["step0.local_logits"])
    for step in range(count):
        if step < 2 and cut.chunks:
            compare_candidates(out, case, session, step)
        if cut.chunks:
            same(session.raw.counts().tolist(), e["steps"][step]["chunk_raw_len_after"], "raw lengths")
        tokens.append(int(rows[-1].argmax()))
        if step + 1 < count:
            rows.append(session.feed(tokens[-1]))
    same(tokens, e["tokens"], "greedy tokens")
    out["logits"] = difference(torch.stack(rows), case.arrays["logits"])
    steps = range(0, count, 1 if len(prompt) < 1000 else 5)  # everything anew is slow for long prompts
    anew = torch.stack([focusllm.stateless(model, cut, tokens[:t]) for t in steps])
    out["stateless"] = difference(anew, case.arrays["logits"][list(steps)])
    exact = focusllm.greedy(case.model(torch.float64), cut, count)[1]
    out["float64"] = difference(exact, case.arrays["logits_f64"])
    return out


def check_perplexity(case: Case) -> dict[str, float]:
    nll, logits = focusllm.perplexity(case.model(), case.cutter(), case.inputs["tokens"], case.inputs["n_reserved"])
    first = case.arrays["logits_first8"]
    return {"nll": difference(nll, case.arrays["nll"]), "logits": difference(logits[: len(first)], first),
            "loss": abs(nll.mean().item() - case.expected["loss"])}


def check_losses(case: Case) -> dict[str, float]:
    out = {"loss": 0.0, "gradient": 0.0}
    i = case.inputs
    for objective in focus_sample.OBJECTIVES:
        e = case.expected[objective]
        replay = Replay(e["draws"])
        sample = focus_sample.draw(objective, len(i["tokens"]), i["local_window"], i["memory_stride"], replay)
        same(replay.left, [], "number of draws")
        have = (sample.start, sample.size, sample.chunk, sample.covered, sample.query(i["query_cap"]), sample.target)
        names = ("local_start", "local_size", "chunk_size", "covered_length", "query_len", "target_index")
        same(have, tuple(e[n] for n in names), "sample")
        same([list(c) for c in sample.chunks()], e["chunk_ranges"], "chunks")
        model = case.model()
        focusllm.freeze(model)
        loss = focus_sample.loss(model, i["tokens"], sample, i["bos_token_id"], i["query_cap"])
        loss.backward()
        out["loss"] = max(out["loss"], abs(loss.item() - e["loss"]))
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        start = f"{objective}.grad."
        want = {n[len(start) :]: g for n, g in case.arrays.items() if n.startswith(start)}
        same(sorted(gradients), sorted(want), "parameters with gradient")
        out["gradient"] = max(out["gradient"], *(difference(g, want[n]) for n, g in gradients.items()))
    return out


def check_case(folder: Path) -> dict[str, float]:
    """Largest absolute differences by name; tokens, chunks and draws must be equal, and the bounds kept."""
    case = Case(folder)
    if case.inputs["kind"] == "train_loss":
        out = check_losses(case)
    else:
        with torch.no_grad():
            out = (check_perplexity if case.inputs["kind"] == "ppl" else check_generate)(case)
    for name, worst in out.items():
        bound = BOUNDS.get(name, 2e-4)
        assert worst < bound, f"{name} differ by {worst:.1e}"
    return out
