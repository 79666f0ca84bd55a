"""`all`: tokenizer, base, check, matching, adapters, measuring and export in one command, in as many calls as it takes.

A call ends after `--minutes`; the next one finds in --work which stages are done and goes on inside the one that was cut.

`h200`, about 25 minutes of one H200, by estimate, never measured: a token of the 16 M base costs 6 x 15.7 M = 94 MFLOP
forwards and backwards, so 65 thousand of them 6 TFLOP. Small widths keep the card waiting for memory and for launches; half
a million tokens a second are assumed, 6 % of its 790 TFLOP/s in bfloat16.

| stage | minutes | tokens | FLOP |
|---|---|---|---|
| tokenizer, 41 M tokens of text | 1.5 | | |
| base, short rows | 3 | 70 M | 7e15 |
| base, text and look-ups | 8 | 240 M | 2.3e16 |
| matching | 0.2 | | |
| sharedllm (M = 3: 32 MFLOP a token of a document) | 7 | 120 M | 5e15 |
| focusllm | 4 | 30 M | 3e15 |
| measuring, export | 1.5 | | |

`demo`, three and a half hours of one undisturbed thread with PyTorch 2 and bfloat16 products: a base of 5.2 M. Tokens a
second were measured (base: of processor time, in a training by two processes; adapters: two steps of `--dry-run` on a busy
machine); minutes are computed from them for the tokens that this base and the demo model's adapters were trained on.

| stage | minutes | tokens | tokens a second |
|---|---|---|---|
| tokenizer, 31 M tokens of text | 3 | | |
| base | 60 | 18 M | 5,300 |
| matching | 0.3 | | |
| sharedllm (M = 3) | 60 | 26 M | 7,800 |
| focusllm | 65 | 13 M | 3,300 |
| measuring, export: a guess | 20 | | |
"""
from __future__ import annotations

import json
import time
from pathlib import Path

from . import export

# stage: options. {model}, {adapter} and {focus} are the folders; `common` goes to every stage that knows the option.
PRESETS: dict[str, dict] = {
    "h200": {
        "model": "banyan-16m",
        "common": "--device cuda --threads 8 --megabytes 0",
        "tokenizer": "--size 8192 --sample 5",
        "base": "--size small --warm-minutes 3 --warm-batch 16384 --minutes 8 --steps 1000000 --rate 1.5e-3 --batch 65536 --precision bfloat16 "
                "--kinds all --every 400",
        "matching": "--trials 512",
        "sharedllm": "--slot-kind mean --lower own --depth 3 --last-p 16 --chunk-size 256 --random-depth "
                     "--minutes 7 --steps 1000000 --rate 1e-3 --batch 65536 --most-documents 32 --longest 8192 --local-tokens 256 "
                     "--kinds all --precision bfloat16 --mix 20000 --mix-after 300 --every 500",
        "focusllm": "--minutes 4 --steps 1000000 --rate 2e-3 --windows 8 --scored 6 --rows 448 --chunk-size 512 --every 200",
        "eval": "--chunks 2,16,64,256 --documents 8",
        "focus-eval": "--chunks 1,4,16,64 --chunk-size 512 --documents 4",
        "least": 0.95, "need": {"tokenizer": 2, "matching": 0.5, "eval": 1.5, "focus-eval": 1},
    },
    "demo": {
        "model": "banyan-demo",
        "common": "--device cpu --threads 1 --megabytes 60",
        "tokenizer": "--size 4096 --sample 5 --digits",
        "base": "--size demo --plant --minutes 60 --steps 1000000 --batch 4096 --precision bfloat16 --kinds all --every 800",
        "matching": "--trials 256",
        "sharedllm": "--slot-kind mean --lower own --depth 3 --last-p 16 --chunk-size 256 --random-depth --longest 8192 --local-tokens 448 --kinds all "
                     "--minutes 60 --steps 100000 --mix 10000 --mix-after 60 --precision bfloat16",
        "focusllm": "--minutes 65 --steps 100000 --chunk-size 512 --precision bfloat16",
        "eval": "--chunks 2,16,64,128", "focus-eval": "--chunks 1,4,16,64 --chunk-size 512",
        "least": 0.95, "need": {"tokenizer": 3, "matching": 1, "eval": 10, "focus-eval": 10},
    },
    "smoke": {
        "model": "banyan-smoke",
        "common": "--device cpu --threads 1 --megabytes 0.5 --workers 1",
        "tokenizer": "--size 2048 --sample 0.2",
        "base": "--size tiny --plant --steps 40 --batch 1024 --every 40 --warm-steps 8",
        "matching": "--trials 32 --chunk-size 128",
        "sharedllm": "--slot-kind mean --lower own --depth 2 --last-p 8 --chunk-size 64 --steps 12 --batch 2048 "
                     "--longest 512 --local-tokens 96 --mix 500 --mix-after 4 --every 12 --allow-weak-base",
        "focusllm": "--steps 6 --windows 4 --rows 32 --chunks-most 8 --chunk-size 64 --every 6 --allow-weak-base",
        "eval": "--chunks 2,8 --documents 2 --facts 4 --text-chunks 2", "focus-eval": "--chunks 2 --documents 2 --facts 4 --chunk-size 64",
        "least": 0.0, "need": {},
    },
}
STAGES = ["tokenizer", "base", "matching", "sharedllm", "focusllm", "eval", "focus-eval", "gguf"]
TRAINING = ("base", "sharedllm", "focusllm")


def arguments(stage: str, args, folders: dict[str, Path]):
    """The options of a stage as its own command would read them."""
    from .__main__ import parser

    preset = PRESETS[args.preset]
    words = [stage, *preset["common"].split(), *preset.get(stage, "").split(), "--data", args.data, "--work", args.work,
             "--seed", str(args.seed)]
    name = {"sharedllm": "adapter", "eval": "adapter", "focusllm": "focus", "focus-eval": "focus"}.get(stage)
    if stage not in ("matching", "gguf"):
        words += ["--output", str(folders[name or "model"])]
    if stage not in ("tokenizer", "base"):
        words += ["--base", str(folders["model"])]
    if stage == "base" and args.plant:
        words += ["--plant"]
    if stage in TRAINING:
        again = "-planted" if stage == "base" and args.plant else ""  # another start is another training
        words += ["--name", f"{folders['model'].name}-{stage}{again}"] + (["--dry-run"] if args.dry_run else [])
    return parser().parse_args(words)


class Progress:
    """Which stages are done, in --work."""

    def __init__(self, path: Path):
        self.path = path
        self.done: dict = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def add(self, stage: str, seconds: float, result) -> None:
        self.done[stage] = {"seconds": round(seconds, 1), "result": result if isinstance(result, dict) else None}
        export.write_json(self.path, self.done)


def check_base(folder: Path, least: float) -> None:
    accuracy = json.loads((folder / "training.json").read_text(encoding="utf-8"))["valid_lookup"]
    if accuracy < least:
        raise SystemExit(f"the base answers {100 * accuracy:.1f} % of the look-ups inside its window, fewer than {100 * least:.0f} %: "
                         "adapters are not trained. Begin again with --plant, or with more minutes for `base`")


def main(args) -> bool:
    """True when all is done, false when --minutes ended the call."""
    preset, end = PRESETS[args.preset], time.time() + 60 * args.minutes
    model = Path(args.output) / (args.model or preset["model"])
    folders = {"model": model, "adapter": model.with_name(model.name + "-adapter"), "focus": model.with_name(model.name + "-focus")}
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    progress = Progress(work / f"all-{model.name}.json")
    for stage in STAGES:
        if stage in progress.done:
            continue
        left = (end - time.time()) / 60
        if left < preset["need"].get(stage, 0.3 if stage in TRAINING and args.minutes < 1e6 else 0):
            print(f"{left:.1f} minutes are left, too few to begin {stage}", flush=True)
            return False
        if args.dry_run and stage not in TRAINING:
            continue
        if args.dry_run and not (folders["model"] / ("tokenizer.json" if stage == "base" else "config.json")).exists():
            print(f"{stage}: its inputs are not there yet, nothing to estimate")
            continue
        print(f"--- {stage}", flush=True)
        own, began = arguments(stage, args, folders), time.time()
        if stage in TRAINING:
            own.until = end - 5  # a checkpoint takes seconds
        result = own.function(own)
        if args.dry_run:
            continue
        if stage in TRAINING and result is False:
            return False
        if stage == "base":
            check_base(model, preset["least"])
        progress.add(stage, time.time() - began, result)
    return True
