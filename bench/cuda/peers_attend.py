"""PyTorch's scaled_dot_product_attention on the shapes of attend_bench, measured the same way; then the ratios.

python3 peers_attend.py OURS.jsonl     prints JSON lines of PyTorch, then one line a shape: ours, theirs, theirs / ours (above 1: ours is faster).
Inputs and outputs are halves there (ours: queries and outs are float32). The ragged shapes have no counterpart: nodes are a batch, as they are all of
one length; "chunks" is left out.
"""
import json
import sys

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from timing import ROTATED, as_graph, median_ms

HEADS, KV_HEADS, DIM = 32, 8, 128

# name: (batch, queries, keys, causal)
SHAPES = {
    "nodes 256x512 f16": (256, 512, 512, True),
    "inject 1x16384 f16": (1, 1, 16384, False),
    "inject 512x16384 f16": (1, 512, 16384, False),
    "decode 1x8192 f16": (1, 1, 8192, False),
    "decode 16x8192 f16": (16, 1, 8192, False),
}


def measure(batch, queries, keys, is_causal):
    half = {"device": "cuda", "dtype": torch.float16}
    n_sets = max(1, min(64, ROTATED // (2 * batch * KV_HEADS * keys * DIM * 2)))
    q = torch.rand(batch, HEADS, queries, DIM, **half) * 2 - 1
    sets = [[torch.rand(batch, KV_HEADS, keys, DIM, **half) * 2 - 1 for _ in range(2)] for _ in range(n_sets)]
    best = None
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        try:
            with sdpa_kernel(backend):
                run = lambda i: functional.scaled_dot_product_attention(
                    q, sets[i % n_sets][0], sets[i % n_sets][1], is_causal=is_causal, enable_gqa=True)
                run(0)
                n_calls = 64 if queries == 1 else 3
                calls = lambda: [run(i) for i in range(n_calls)]
                ms = median_ms(n_calls, as_graph(calls) if queries == 1 else calls)
        except RuntimeError:
            continue  # this backend does not take the shape
        if best is None or ms < best[0]:
            best = (ms, backend.name)
    return best


def main():
    with open(sys.argv[1]) as file:
        ours = {line["name"]: line for line in map(json.loads, filter(None, map(str.strip, file)))}
    rows = []
    for name, shape in SHAPES.items():
        best = measure(*shape)
        if best is None:
            continue
        ms, backend = best
        print(json.dumps({"name": name, "peer": f"torch {torch.__version__} {backend}", "ms": round(ms, 4)}))
        if name in ours:
            rows.append((name, ours[name]["ms"], ms, backend))
    for name, our_ms, ms, backend in rows:
        print(f"{name:24} ours {our_ms:9.4f} ms   {backend:20} {ms:9.4f} ms   {ms / our_ms:5.2f} x")


if __name__ == "__main__":
    main()
