"""PyTorch's bf16 matrix product on the shapes of gemm_bench, measured the same way; then the ratios.

python3 peers_gemm.py OURS.jsonl     prints JSON lines of PyTorch, then a line a shape and dtype: ours, theirs, theirs / ours (above 1: ours is faster).
Theirs multiplies bf16 by bf16 to bf16; ours reads and writes float32 activations, and its Q8_0 and Q4_K stand beside the same bf16 product, as
PyTorch has no such formats. Up to 128 tokens both replay a graph of calls.
"""
import json
import sys

import torch

from timing import ROTATED, as_graph, median_ms


def measure(tokens, rows, cols):
    bf16 = {"device": "cuda", "dtype": torch.bfloat16}
    n_sets = max(2, min(64, -(-ROTATED // (2 * rows * cols))))
    x = torch.rand(tokens, cols, **bf16) * 2 - 1
    weights = [torch.rand(rows, cols, **bf16) * 2 - 1 for _ in range(n_sets)]
    out = torch.empty(tokens, rows, **bf16)
    n_calls = max(n_sets, 16) if tokens <= 128 else 4

    def calls():
        for i in range(n_calls):
            torch.matmul(x, weights[i % n_sets].T, out=out)

    calls()
    torch.cuda.synchronize()
    return median_ms(n_calls, calls if tokens > 128 else as_graph(calls))


def main():
    with open(sys.argv[1]) as file:
        lines = [json.loads(line) for line in file if line.strip()]
    ours = [line for line in lines if line.get("path") == "chosen"]
    theirs = {}
    for line in ours:
        shape = (line["tokens"], line["rows"], line["cols"])
        if shape not in theirs:
            theirs[shape] = measure(*shape)
            tflops = 2e-9 * shape[0] * shape[1] * shape[2] / theirs[shape]
            print(json.dumps({"name": line["name"], "tokens": shape[0], "peer": f"torch {torch.__version__} bf16",
                              "ms": round(theirs[shape], 5), "TFLOPs": round(tflops, 1)}), flush=True)
    for line in ours:
        ms = theirs[line["tokens"], line["rows"], line["cols"]]
        print(f"{line['name']:8} {line['dtype']:5} T={line['tokens']:<5} ours {line['ms']:9.4f} ms ({line['TFLOPs']:6.1f} TFLOP/s, "
              f"{100 * line['of_tensor']:3.0f} % of tensor, {100 * line['of_read']:3.0f} % of read)   torch bf16 {ms:9.4f} ms   {ms / line['ms']:5.2f} x")


if __name__ == "__main__":
    main()
