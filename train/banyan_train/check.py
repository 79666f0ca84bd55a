"""The reference against the stored cases: prints the largest differences."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from . import sharedllm, tensors


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0


class Case:
    """One folder: config, weights (float64), inputs and expectations."""

    def __init__(self, folder: Path):
        read = lambda name: json.loads((folder / name).read_text(encoding="utf-8"))
        self.config, self.inputs, self.expected = read("config.json"), read("inputs.json"), read("expected.json")
        self.arrays = tensors.read(folder / "expected.safetensors")
        self.model = sharedllm.build(self.config, tensors.read(folder / "model.safetensors"), torch.float64)
        i = self.inputs
        self.local = torch.tensor(i["input_ids"][0])
        chunks = i.get("encoder_input_ids")
        if chunks is not None:
            self.document = torch.tensor(chunks[0]).flatten()
            self.chunk_size = len(chunks[0][0])
        else:
            self.document = torch.tensor(i["document_ids"], dtype=torch.long)
            self.chunk_size = self.config["chunk_size"]
        mask = i.get("encoder_attention_mask")
        self.mask = None if mask is None else torch.tensor(mask[0]).flatten().bool()

    def read(self) -> sharedllm.Memory:
        return self.model.read(self.document, self.local, self.chunk_size, self.inputs["query_length"], self.mask)


@torch.no_grad()
def check_case(folder: Path) -> dict[str, float]:
    """Largest absolute differences by name; choices and tokens must be equal."""
    case = Case(folder)
    expected, arrays, model = case.expected, case.arrays, case.model
    memory = case.read()
    paper = model.tree.semantics in ("paper", "nested")
    out: dict[str, float] = {}
    names = ["left", "right"]
    for level, want in zip(memory.levels, expected["levels"]):
        if "chosen" in want:
            assert [names[c] for c in level.chosen] == want["chosen"], "another choice"
        assert [(n.start, n.end) for n in level.nodes] == [(n["start"], n["end"]) for n in want["nodes"]], "other nodes"
        if level.level in memory.vectors:
            states, s = memory.vectors[level.level]
            out["vectors"] = max(out.get("vectors", 0), difference(states, arrays[f"node_vectors.level{level.level}"]))
            out["similarities"] = max(out.get("similarities", 0), difference(s, arrays[f"similarities.level{level.level}"]))
    if "query_vector" in arrays:
        out["vectors"] = max(out.get("vectors", 0), difference(memory.query_vector, arrays["query_vector"]))
    assert memory.positions == arrays["injected_positions"].flatten().tolist(), "other slots"
    rows = arrays["injected_positions"].shape[0]
    for i, after in enumerate(model.rotated(memory)):
        for name, have in (("k_before", memory.keys[i]), ("k_after", after), ("v", memory.values[i])):
            have = have[0] if paper else have[0].unflatten(1, (rows, -1)).transpose(0, 1)
            if f"kv.{i}.{name}" in arrays:
                out[name] = max(out.get(name, 0), difference(have, arrays[f"kv.{i}.{name}"]))
            elif not paper and f"kv.{i}.{name}.head" in arrays:
                head, tail = arrays[f"kv.{i}.{name}.head"], arrays[f"kv.{i}.{name}.tail"]
                out[name] = max(out.get(name, 0), difference(have[0][:, : head.shape[1]], head),
                                difference(have[-1][:, -tail.shape[1] :], tail))
    trace: dict = {}
    logits = model(case.local[None], memory, len(case.local), trace)[0]
    begin, end = expected["logits_positions"]
    out["logits"] = difference(logits[begin:end], arrays["logits"])
    if "hidden.last" in arrays:
        out["hidden"] = difference(torch.stack([h[0, -1] for h in trace["hidden"]]), arrays["hidden.last"])
        out["cross_out"] = difference(torch.stack([h[0, -1] for h in trace["cross_out"]]), arrays["cross_out.last"])
    if expected["loss"] is not None:
        window = min(case.inputs["loss_window"], len(case.local) - 1)
        loss = torch.nn.functional.cross_entropy(logits[-window - 1 : -1], case.local[-window:])
        out["loss"] = abs(loss.item() - expected["loss"])
    for name, decoded in (("cached", True), ("recomputed", False)):
        want = expected["greedy"][name]
        if want is None:
            continue
        tokens, rows_of_logits = model.generate(case.local, memory, len(want), decoded)
        assert tokens == want, f"other greedy tokens ({name})"
        if f"greedy.{name}.logits" in arrays:
            out["greedy"] = max(out.get("greedy", 0), difference(rows_of_logits, arrays[f"greedy.{name}.logits"]))
    if "variant_corrected" in expected:
        model.tree = replace(model.tree, semantics="corrected")
        want = expected["variant_corrected"]["greedy"]
        tokens, _ = model.generate(case.local, case.read(), len(want), True)
        assert tokens == want, "other greedy tokens (corrected)"
    return out


def main(folders: list[Path]) -> int:
    from . import focus_check

    worst: dict[str, float] = {}
    failed = 0
    for root in folders:
        if not root.is_dir():
            print(root, "is not there, skipped", flush=True)
            continue
        for folder in sorted(p for p in root.iterdir() if (p / "config.json").exists()):
            try:
                focus = "kind" in json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
                numbers = focus_check.check_case(folder) if focus else check_case(folder)
                print(folder.name, " ".join(f"{k}={v:.1e}" for k, v in numbers.items()), flush=True)
                worst = {k: max(worst.get(k, 0), numbers.get(k, 0)) for k in {*worst, *numbers}}
            except AssertionError as error:
                failed += 1
                print(folder.name, "FAILED:", error, flush=True)
    print("largest:", " ".join(f"{k}={v:.1e}" for k, v in sorted(worst.items())), f"failed={failed}")
    return failed
