"""Command line: python3 -m banyan_train COMMAND; `--help` behind a command lists its options. See train/README.md."""
from __future__ import annotations

import argparse
import math
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
DEMO = ROOT / "models" / "banyan-demo"


def tokenizer(args) -> None:
    from . import bpe, data, words

    texts = [t for path in data.files_of(Path(args.data), "train").values()
             for t in data.sample_texts(path, args.sample, 6000, held_out=False)]
    out = Path(args.output)
    out.mkdir(parents=True, exist_ok=True)
    bpe.train(texts, args.size, words.KEYS + words.VALUES, args.digits).save(out / "tokenizer.json")


def golden(args) -> None:
    import_module(".golden", __package__).write_all(Path(args.output), args.seed)


def check(args) -> None:
    raise SystemExit(import_module(".check", __package__).main([Path(f) for f in args.folders]))


def gguf(args) -> None:
    from . import bases, gguf
    from .bpe import Tokenizer

    import torch

    base = bases.load(Path(args.base), Path(args.tokenizer) if args.tokenizer else None)
    out = Path(args.output) if args.output else base.folder.with_name(base.folder.name + ".gguf")
    own = base.tokenizer if isinstance(base.tokenizer, Tokenizer) else None
    gguf.write(out, base.config, base.state, own, base.folder.name, {"f16": torch.float16, "f32": torch.float32}[args.type])
    print(out, "" if own else "(without a tokenizer: only ours is written)")


def lazily(module: str, name: str):
    """The function of a module that is imported when the command runs."""
    return lambda args: getattr(import_module(f".{module}", __package__), name)(args)


def places(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", default=str(DATA), help="folder of NAME-train.jsonl[.gz|.xz] and NAME-valid.jsonl[.gz|.xz]")
    sub.add_argument("--work", default=str(ROOT / "train" / ".work"), help="token caches, checkpoints, metrics")
    sub.add_argument("--seed", type=int, default=1)


def common(sub: argparse.ArgumentParser, base: bool) -> None:
    places(sub)
    sub.add_argument("--megabytes", type=float, default=14.0, help="million characters read of every file, most; 0: all")
    sub.add_argument("--workers", type=int, default=0, help="processes that tokenize; 0: one a core")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    sub.add_argument("--threads", type=int, default=1)
    if base:
        sub.add_argument("--base", default=str(DEMO), help="Hugging Face directory, or GGUF file in F32, F16 or BF16")
        sub.add_argument("--tokenizer", default="", help="tokenizer.json, if none lies beside the base")
        sub.add_argument("--tokens", default="", help="array of ids (.npy) instead of text files")


def training(sub: argparse.ArgumentParser, name: str, steps: int, rate: float, every: int, batch: int) -> None:
    sub.add_argument("--steps", type=int, default=steps, help="ends then, or after --minutes")
    sub.add_argument("--minutes", type=float, default=math.inf, help="over all calls; the learning rate follows whichever is further")
    sub.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    if batch:
        sub.add_argument("--batch", type=int, default=batch, help="tokens of a batch, about")
    sub.add_argument("--accumulate", type=int, default=1, help="batches a step")
    sub.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    sub.add_argument("--checkpointing", action="store_true", help="compute activations again instead of keeping them")
    sub.add_argument("--every", type=int, default=every, help="steps between validations and exports")
    sub.add_argument("--save-every", type=float, default=2.0, help="minutes between checkpoints, most")
    sub.add_argument("--dry-run", action="store_true", help="two steps, then an estimate of memory and time; only token caches are written")
    sub.add_argument("--name", default=name, help="folder of checkpoint and metrics in --work")
    sub.set_defaults(until=math.inf)


def requirement(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--require-lookup", dest="require_lookup", action="store_true", default=True,
                     help="refuse a base below 95 %% of look-ups inside its window (default)")
    sub.add_argument("--allow-weak-base", dest="require_lookup", action="store_false")


def shape(sub: argparse.ArgumentParser) -> None:
    """What an adapter is, and how its documents look in training."""
    sub.add_argument("--semantics", default="nested", choices=["paper", "nested"])
    sub.add_argument("--layers", type=int, default=0, help="M, the injecting layers; 0: what `matching` recommends, else 3")
    sub.add_argument("--depth", type=int, default=3)
    sub.add_argument("--random-depth", action="store_true", help="train with every depth up to --depth")
    sub.add_argument("--last-p", default="16", help="slots of a node")
    sub.add_argument("--slot-kind", default="mean", choices=["mean", "strided"])
    sub.add_argument("--positions", default="auto", choices=["auto", "sum", "banded"], help="auto: banded for nested, which alone has them")
    sub.add_argument("--chunk-size", type=int, default=256)
    sub.add_argument("--selection", default="auto", choices=["auto", "cosine", "token_keys"], help="auto: token keys if `matching` found a good layer")
    sub.add_argument("--matching", default="", help="file written by `matching`; default: matching.json beside the base")
    sub.add_argument("--slot-budget", type=float, default=0, help="written to adapter_config.json; training knows no budget")
    sub.add_argument("--budget-unit", default="chunk", choices=["chunk", "group"])
    sub.add_argument("--lower", default="own", choices=["shared", "lora", "own"])
    sub.add_argument("--train-lower", dest="lower", action="store_const", const="own", help="the same as --lower own")
    sub.add_argument("--rank", type=int, default=8, help="of --lower lora")
    sub.add_argument("--alpha", type=float, default=16.0)
    sub.add_argument("--open", type=float, default=0.7, help="share of the chunks with a fact whose path leads to it")
    sub.add_argument("--kinds", default="fact", choices=["fact", "all"], help="all: also pass keys, notes to repeat, titled documents")
    sub.add_argument("--local-tokens", dest="local", type=int, default=160, help="tokens of the local text")
    sub.add_argument("--longest", type=int, default=8192, help="tokens of a document, most")
    sub.add_argument("--virtual", type=int, default=4096, help="chunk indices are drawn from documents of up to so many chunks: positions "
                     "beyond those are not learned")
    sub.add_argument("--most-documents", type=int, default=14, help="of a batch")
    sub.add_argument("--mix", type=int, default=8000, help="slots of other documents mixed in, most; 0: never")
    sub.add_argument("--mix-after", type=int, default=100, help="step from which on they are")
    sub.add_argument("--mix-share", type=float, default=0.35, help="in so many of the steps")


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="banyan_train", description=__doc__)
    commands = out.add_subparsers(dest="command", required=True)

    def command(name: str, function, output: str, base: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name)
        sub.set_defaults(function=function)
        sub.add_argument("--output", default=str(ROOT / output) if output else "")
        common(sub, base)
        return sub

    sub = command("tokenizer", tokenizer, "models/banyan-demo")
    sub.add_argument("--size", type=int, default=2048)
    sub.add_argument("--sample", type=float, default=4.0, help="million characters of every file that merges are learned from")
    sub.add_argument("--digits", action="store_true", help="every digit is a token of its own: pass keys can be copied")

    sub = command("base", lazily("base", "train"), "models/banyan-demo")
    training(sub, "base", 4000, 2e-3, 200, 2048)
    sub.add_argument("--size", default="demo", help="demo (5.2 M), small (16 M), mini (1.3 M) or tiny (0.4 M)")
    sub.add_argument("--warm-steps", type=int, default=0, help="of short look-up rows before any text; 0 with --warm-minutes 0: none")
    sub.add_argument("--warm-minutes", type=float, default=0)
    sub.add_argument("--warm-batch", type=int, default=0, help="tokens of a batch of short rows; 0: as --batch")
    sub.add_argument("--plant", action="store_true", help="start with the matching circuit set by hand, whatever the short rows taught")
    sub.add_argument("--kinds", default="fact", choices=["fact", "all"])

    sub = command("sharedllm", lazily("adapter", "train"), "models/banyan-demo-adapter", True)
    training(sub, "adapter", 500, 2e-3, 50, 16384)
    shape(sub)
    requirement(sub)

    sub = command("focusllm", lazily("focus_train", "train"), "models/banyan-demo-focus", True)
    training(sub, "focus", 2000, 5e-3, 50, 0)
    requirement(sub)
    sub.add_argument("--chunk-size", type=int, default=256, help="written to adapter_config.json; training draws many")
    sub.add_argument("--windows", type=int, default=8, help="a document of text has at most so many base windows")
    sub.add_argument("--scored", type=int, default=3, help="windows that are scored, one token each, over one text's chunks")
    sub.add_argument("--chunks-most", type=int, default=128, help="chunks of a document with facts, most; begins with 2")
    sub.add_argument("--rows", type=int, default=224, help="chunk passes for questions a step, most")
    sub.add_argument("--answer-weight", type=float, default=5.0)

    sub = command("matching", lazily("matching", "main"), "", True)
    sub.add_argument("--trials", type=int, default=256)
    sub.add_argument("--chunk-size", type=int, default=256)

    sub = command("eval", lazily("eval", "main"), "models/banyan-demo-adapter", True)
    sub.add_argument("--chunks", default="2,16,64,128,300")
    sub.add_argument("--documents", type=int, default=8)
    sub.add_argument("--facts", type=int, default=16, help="facts planted in a document, each asked once")
    sub.add_argument("--text-chunks", type=int, default=64, help="text is measured up to so many chunks")
    sub.add_argument("--budget", type=int, default=256, help="groups that the way `groups` injects")

    sub = command("focus-eval", lazily("focus_eval", "main"), "models/banyan-demo-focus", True)
    sub.add_argument("--chunks", default="1,2,4,8,16,64,128")
    sub.add_argument("--chunk-size", type=int, default=256)
    sub.add_argument("--documents", type=int, default=8)
    sub.add_argument("--facts", type=int, default=16, help="facts planted in a document, each asked once")
    sub.add_argument("--text-chunks", type=int, default=16, help="text is measured up to so many chunks")

    sub = command("ablate", lazily("ablate", "main"), "train/.work/ablation", True)
    training(sub, "ablation", 200, 2e-3, 10**9, 16384)
    shape(sub)
    requirement(sub)
    sub.add_argument("--only", default="", help="names of variants, by commas; default: all")
    sub.add_argument("--chunks", default="8,32")
    sub.add_argument("--documents", type=int, default=4)
    sub.add_argument("--facts", type=int, default=16)

    sub = command("gguf", gguf, "", True)
    sub.add_argument("--type", default="f16", choices=["f16", "f32"])

    sub = commands.add_parser("all")
    sub.set_defaults(function=lazily("presets", "main"))
    places(sub)
    sub.add_argument("--preset", default="demo", choices=["h200", "demo", "smoke"])
    sub.add_argument("--output", default=str(ROOT / "models"), help="folder of the model's and the adapters' directories")
    sub.add_argument("--model", default="", help="name of the base; default: the preset's")
    sub.add_argument("--minutes", type=float, default=math.inf, help="of this call; the next one goes on where it stopped")
    sub.add_argument("--plant", action="store_true", help="as of `base`")
    sub.add_argument("--dry-run", action="store_true", help="estimates of the stages whose inputs are there")

    sub = command("golden", golden, "test/fixtures/paper")
    sub.set_defaults(seed=7)
    sub = command("check", check, "")
    sub.add_argument("folders", nargs="*", default=[str(ROOT.parent / "shared" / "fixtures" / "sharedllm"),
                                                    str(ROOT / "test" / "fixtures" / "paper"),
                                                    str(ROOT / "test" / "fixtures" / "focusllm")])
    return out


def main() -> None:
    args = parser().parse_args()
    if args.function(args) is False:
        print("stopped before the end: call again to go on", flush=True)


if __name__ == "__main__":
    main()
