"""Hugging Face transformers on the shape and the lengths of engine_bench: first token and decoding by full attention (SDPA), random bf16 weights.

python3 peers_engine.py ENGINE.jsonl [--seconds N]     prints JSON lines as engine_bench does, then what both say, side by side.
The prompt is read in one pass if memory allows, for then SDPA takes its flash kernel; else in pieces. Logits are computed for the last token only.
The cache is transformers' own DynamicCache. A second time only where half of the seconds are left.
"""
import json
import sys
import time

import torch
import transformers

NAME = f"transformers {transformers.__version__}"


def read_lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file if line.startswith("{")]


def make_model(shape, window):
    config = transformers.LlamaConfig(
        hidden_size=shape["dim"], intermediate_size=shape["ffn"], num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kvHeads"], head_dim=shape["headDim"], vocab_size=shape["vocab"], max_position_embeddings=window,
        rope_theta=500000.0, tie_word_embeddings=shape["isTied"], attn_implementation="sdpa")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        return transformers.LlamaForCausalLM(config).eval()


def step(model, ids, cache):
    """The greedy token behind these ids, which follow what the cache holds."""
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1:].argmax(-1)


def generate(model, n_prompt, n_more, piece):
    """Seconds to the first token, and decoded tokens a second."""
    ids = torch.randint(3, model.config.vocab_size, (1, n_prompt), device="cuda")
    cache = transformers.DynamicCache()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for at in range(0, n_prompt, piece):
        token = step(model, ids[:, at:at + piece], cache)
    token.item()
    first = time.perf_counter()
    for _ in range(n_more):
        token = step(model, token, cache)
    token.item()
    return first - begin, n_more / (time.perf_counter() - first)


def report(name, unit, is_cost, values):
    print(json.dumps({"name": f"{NAME}: {name}", "unit": unit, "isCost": is_cost, "values": values}), flush=True)


def measure(lines, seconds):
    about = next(line for line in lines if line.get("bench") == "engine")
    flags, shape = about["flags"], about["shape"]
    n_prompt, n_more = flags["document"] + flags["question"], flags["tokens"]
    begin = time.perf_counter()
    model = make_model(shape, 2 * n_prompt)
    weights = torch.cuda.memory_allocated()
    generate(model, flags["question"], 8, n_prompt)  # kernels are loaded
    report("decoding without a document", "tokens/s", False, [generate(model, flags["question"], n_more, n_prompt)[1] for _ in range(3)])

    at = f"full attention, {flags['document'] // 1024}K" if flags["document"] % 1024 == 0 else f"full attention, {flags['document']}"
    first, speeds = [], []
    for piece in (n_prompt, 16384, 2048):
        try:
            torch.cuda.reset_peak_memory_stats()
            while len(first) < 2 and (not first or time.perf_counter() - begin < seconds / 2):
                sample = generate(model, n_prompt, n_more, piece)
                first.append(sample[0])
                speeds.append(sample[1])
            break
        except torch.cuda.OutOfMemoryError:
            print(f"not enough memory for {piece} tokens at once", flush=True)
        torch.cuda.empty_cache()
    if not first:
        return
    report(f"first token by {at}", "s", True, first)
    report(f"decoding by {at}", "tokens/s", False, speeds)
    report(f"peak of {at}, used above the weights", "MiB", True, [(torch.cuda.max_memory_allocated() - weights) / 2**20])
    for line in lines:
        ours = sorted(line.get("values", []))
        if ours and line["unit"] == "s" and line["name"].startswith(("first token,", "first token by")):
            ratio = sorted(first)[len(first) // 2] / ours[len(ours) // 2]
            print(f"{line['name']:60} ours {ours[len(ours) // 2]:9.3f} s   {NAME}, {at}: {sorted(first)[len(first) // 2]:9.3f} s   {ratio:6.2f} x")


def main():
    seconds = float(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 240.0
    with torch.inference_mode():
        measure(read_lines(sys.argv[1]), seconds)


if __name__ == "__main__":
    main()
