"""Command line: python3 -m banyan_train tokenizer|base|sharedllm|focusllm|golden|eval|focus-eval|check"""
from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"


def tokenizer(args) -> None:
    from . import bpe, data, words

    folder = Path(args.data)
    texts = data.sample_texts(folder / "books-train.jsonl.xz", 5)
    texts += data.sample_texts(folder / "docs-train.jsonl.xz", 5, 6000)
    out = Path(args.output)
    out.mkdir(parents=True, exist_ok=True)
    bpe.train(texts, args.size, words.KEYS + words.VALUES).save(out / "tokenizer.json")


def base(args) -> None:
    from . import base

    base.train(args)


def sharedllm(args) -> None:
    from . import adapter

    adapter.train(args)


def focusllm(args) -> None:
    from . import focus_train

    focus_train.train(args)


def golden(args) -> None:
    from . import golden

    golden.write_all(Path(args.output), args.seed)


def check(args) -> None:
    from . import check

    raise SystemExit(check.main([Path(f) for f in args.folders]))


def evaluate(args) -> None:
    from . import eval

    eval.main(args)


def evaluate_focus(args) -> None:
    from . import focus_eval

    focus_eval.main(args)


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
        sub.add_argument("--threads", type=int, default=1)
        sub.add_argument("--seed", type=int, default=1)
        return sub

    sub = command("tokenizer", tokenizer, "models/banyan-demo")
    sub.add_argument("--size", type=int, default=2048)
    sub = command("base", base, "models/banyan-demo")
    sub.add_argument("--steps", type=int, default=4000)
    sub.add_argument("--minutes", type=float, default=1e9, help="ends then, if the steps are not over before")
    sub.add_argument("--rate", type=float, default=2e-3)
    sub.add_argument("--every", type=int, default=200)
    sub = command("sharedllm", sharedllm, "models/banyan-demo-adapter")
    sub.add_argument("--base", default=str(ROOT / "models" / "banyan-demo"))
    sub.add_argument("--steps", type=int, default=500)
    sub.add_argument("--minutes", type=float, default=1e9)
    sub.add_argument("--rate", type=float, default=2e-3)
    sub.add_argument("--every", type=int, default=50)
    sub.add_argument("--layers", type=int, default=3, help="M, the number of injecting layers")
    sub.add_argument("--depth", type=int, default=2)
    sub.add_argument("--last-p", default="32")
    sub.add_argument("--slot-kind", default="mean", choices=["mean", "strided"])
    sub.add_argument("--chunk-size", type=int, default=256)
    sub.add_argument("--matching", default="1:0", help="LAYER:HEAD,.. by whose keys the engine selects (the demo base's planted head); '': cosine")
    sub.add_argument("--mix-after", type=int, default=100, help="step from which old slots are mixed in")
    sub.add_argument("--mix", type=int, default=8000, help="at most so many of them")
    sub.add_argument("--mix-share", type=float, default=0.35, help="in so many of the steps")
    sub.add_argument("--name", default="adapter", help="folder of checkpoint and metrics in --work")
    sub = command("focusllm", focusllm, "models/banyan-demo-focus")
    sub.add_argument("--base", default=str(ROOT / "models" / "banyan-demo"))
    sub.add_argument("--steps", type=int, default=2000)
    sub.add_argument("--minutes", type=float, default=1e9)
    sub.add_argument("--rate", type=float, default=5e-3)
    sub.add_argument("--every", type=int, default=50)
    sub.add_argument("--chunk-size", type=int, default=256, help="written to adapter_config.json; training draws many")
    sub.add_argument("--windows", type=int, default=8, help="a document of text has at most so many base windows")
    sub.add_argument("--scored", type=int, default=3, help="windows that are scored, one token each, over one text's chunks")
    sub.add_argument("--chunks-most", type=int, default=128, help="chunks of a document with facts, most; begins with 2")
    sub.add_argument("--rows", type=int, default=224, help="chunk passes for questions a step, most")
    sub.add_argument("--answer-weight", type=float, default=5.0)
    sub.add_argument("--name", default="focus", help="folder of checkpoint and metrics in --work")
    sub = command("golden", golden, "test/fixtures/paper")
    sub.set_defaults(seed=7)
    sub = command("eval", evaluate, "models/banyan-demo-adapter")
    sub.add_argument("--base", default=str(ROOT / "models" / "banyan-demo"))
    sub.add_argument("--chunks", default="2,16,64,128,300")
    sub.add_argument("--documents", type=int, default=8)
    sub.add_argument("--facts", type=int, default=16, help="facts planted in a document, each asked once")
    sub = command("focus-eval", evaluate_focus, "models/banyan-demo-focus")
    sub.add_argument("--base", default=str(ROOT / "models" / "banyan-demo"))
    sub.add_argument("--chunks", default="1,2,4,8,16,64,128")
    sub.add_argument("--chunk-size", type=int, default=256)
    sub.add_argument("--documents", type=int, default=8)
    sub.add_argument("--facts", type=int, default=16, help="facts planted in a document, each asked once")
    sub.add_argument("--text-chunks", type=int, default=16, help="text is measured up to so many chunks")
    sub = command("check", check, "")
    sub.add_argument("folders", nargs="*", default=[str(ROOT.parent / "shared" / "fixtures" / "sharedllm"),
                                                    str(ROOT / "test" / "fixtures" / "paper"),
                                                    str(ROOT / "test" / "fixtures" / "focusllm")])
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
