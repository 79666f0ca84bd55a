"""Command line: python3 -m banyan_train tokenizer|base|sharedllm|golden|eval|check"""
from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def tokenizer(args) -> None:
    from . import bpe, data, words

    folder = Path(args.data)
    texts = data.sample_texts(folder / "books-train.jsonl.xz", 5) + data.sample_texts(folder / "docs-train.jsonl.xz", 5, 6000)
    out = Path(args.output)
    out.mkdir(parents=True, exist_ok=True)
    bpe.train(texts, args.size, words.KEYS + words.VALUES).save(out / "tokenizer.json")


def base(args) -> None:
    from . import base

    base.train(args)


def main() -> None:
    parser = argparse.ArgumentParser(prog="banyan_train", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, function, output: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name)
        sub.set_defaults(function=function)
        sub.add_argument("--output", default=str(ROOT / output))
        sub.add_argument("--data", default=str(DATA))
        sub.add_argument("--work", default=str(ROOT / "train" / ".work"), help="token caches, checkpoints, metrics")
        sub.add_argument("--device", default="cpu")
        sub.add_argument("--threads", type=int, default=2)
        sub.add_argument("--seed", type=int, default=1)
        return sub

    sub = command("tokenizer", tokenizer, "models/banyan-demo")
    sub.add_argument("--size", type=int, default=2048)
    sub = command("base", base, "models/banyan-demo")
    sub.add_argument("--steps", type=int, default=2000)
    sub.add_argument("--rate", type=float, default=3e-3)
    sub.add_argument("--every", type=int, default=200)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
