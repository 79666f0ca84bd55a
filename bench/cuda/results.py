"""What run.sh measured, as one result file of the layout of bench/result_file.ts, and beside the targets.

python3 results.py DIR     reads DIR/{engine,gemm,attend,rows}{.jsonl,_peers.txt} as far as they are there, writes DIR/results.json and prints a line a target:
what is wanted, what was measured, met or MISSED. A target whose measurement is not there is "not measured". Exit code 1: one was missed.
"""
import json
import os
import re
import subprocess
import sys


def lines_of(path):
    """JSON lines; what else is printed there is for people. A last line may be torn: its bench was cut short."""
    lines = []
    if os.path.exists(path):
        with open(path) as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    lines.append(line)
    return lines


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def commit():
    if os.environ.get("BANYAN_COMMIT"):
        return os.environ["BANYAN_COMMIT"]
    short = output_of("git", "rev-parse", "--short=12", "HEAD")
    if short is None:
        return "unknown"
    # what is being written about the results is no change of the code
    is_clean = output_of("git", "diff", "--quiet", "HEAD", "--", ":!bench/results", ":!docs", ":!*.md") is not None
    return short if is_clean else f"{short}-dirty"


def cpu():
    try:
        with open("/proc/cpuinfo") as file:
            return re.search(r"^model name\s*:\s*(.*)$", file.read(), re.M).group(1).strip()
    except (OSError, AttributeError):
        return "unknown processor"


def measured_of(bench, line, is_peer):
    """What a line of a bench says, as result_file.ts has it."""
    if "values" in line:
        return [{key: line[key] for key in ("name", "unit", "isCost", "values")}]
    if "ms" not in line:
        return []
    parts = [line.get("peer") if is_peer else None, bench, line["name"], line.get("dtype"), line.get("path")]
    if "tokens" in line:
        parts.append(f"T={line['tokens']}")
    if is_peer and "rows" in line:
        parts.append(f"{line['rows']}x{line['cols']}")
    name = " ".join(str(part) for part in parts if part)
    measured = [{"name": name, "unit": "ms", "isCost": True, "values": [line["ms"]]}]
    for key, what in (("of_tensor", "of the tensor cores"), ("of_read", "of reading")):
        if key in line:
            measured.append({"name": f"{name}, {what}", "unit": "%", "isCost": False, "values": [100 * line[key]]})
    return measured


def median(values):
    return sorted(values)[len(values) // 2]


class Figures:
    """Medians of what is measured, found by a pattern of the name."""

    def __init__(self, measured):
        self.medians = {each["name"]: median(each["values"]) for each in measured if each["values"]}

    def one(self, pattern):
        return next((value for name, value in self.medians.items() if re.fullmatch(pattern, name)), None)


def ratio(a, b):
    return None if a is None or b is None else a / b


def gemm_ratios(lines, peers, dtype):
    """Least PyTorch / ours over the shapes with 2048 tokens and more."""
    theirs = {(line["name"], line["tokens"]): line["ms"] for line in peers if "peer" in line}
    ours = [line for line in lines if line.get("path") == "chosen" and line["dtype"] == dtype and line["tokens"] >= 2048]
    ratios = [theirs[line["name"], line["tokens"]] / line["ms"] for line in ours if (line["name"], line["tokens"]) in theirs]
    return 100 * min(ratios) if ratios else None


def attend_ratio(lines, peers, name):
    of = lambda all_: next((line["ms"] for line in all_ if line.get("name") == name), None)
    return ratio(of(peers), of(lines))


def targets(found, figures):
    """(what, value, unit, least, most)"""
    inf = float("inf")
    gemm, gemm_peers = found["gemm"]
    attend, attend_peers = found["attend"]
    first = figures.one(r"first token, \d+K?")
    injection = next((100 * line["of_read"] for line in attend if line.get("name") == "inject 1x16384 f16"), None)
    return [
        ("gemm bf16, 2048 tokens and more, of cuBLAS", gemm_ratios(gemm, gemm_peers, "BF16"), "%", 85, inf),
        ("gemm Q4_K, 2048 tokens and more, of cuBLAS's bf16", gemm_ratios(gemm, gemm_peers, "Q4_K"), "%", 70, inf),
        ("256 nodes of 512 tokens, PyTorch's best attention / ours", attend_ratio(attend, attend_peers, "nodes 256x512 f16"), "x", 1, inf),
        ("decoding, of reading", figures.one("decoding without a document, of reading"), "%", 85, inf),
        ("injection of 16K slots, of reading", injection, "%", 75, inf),
        ("first token", first, "s", 0, 1),
        ("full attention / first token", ratio(figures.one(r"first token by full attention, \d+K?"), first), "x", 15, inf),
        ("transformers / first token", ratio(figures.one(r"transformers .*: first token by full attention, \d+K?"), first), "x", 15, inf),
        ("peak until the first token, above the weights", figures.one(r"peak until the first token, \d+K?, used above the weights"), "MiB", 0, 2e9 / 2**20),
        ("later question", figures.one(r"later question, \d+K?"), "s", 0, 0.05),
        ("compressing the long document, of the other's rate", figures.one(r"compressing, \d+K? to \d+K?"), "%", 95, 105),
        ("left behind by small documents", figures.one(r"\d+ documents of \d+K?: left behind"), "bytes", -inf, 0),
    ]


def main():
    folder = sys.argv[1]
    found = {bench: (lines_of(f"{folder}/{bench}.jsonl"), lines_of(f"{folder}/{bench}_peers.txt")) for bench in ("engine", "gemm", "attend", "rows")}
    measured = []
    for bench, (ours, theirs) in found.items():
        for is_peer, lines in ((False, ours), (True, theirs)):
            for line in lines:
                measured += measured_of(bench, line, is_peer)
    about = next((line for line in found["engine"][0] if line.get("bench") == "engine"), {})
    gpu = output_of("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,power.limit", "--format=csv,noheader")
    result = {
        "bench": "cuda", "commit": commit(), "cpu": cpu(), "gpu": (gpu or "none").splitlines()[0],
        "nvcc": (output_of("nvcc", "--version") or "none").splitlines()[-1], "device": about.get("device", "unknown"),
        "flags": about.get("flags", {}), "shape": about.get("shape", {}),
        "skipped": [line["skipped"] for line in found["engine"][0] if "skipped" in line], "measured": measured,
    }
    with open(f"{folder}/results.json", "w") as file:
        file.write(f"{json.dumps(result, indent=1)}\n")

    print(f"{result['gpu']}; {result['device']}; commit {result['commit']}")
    is_missed = False
    for what, value, unit, least, most in targets(found, Figures(measured)):
        wanted = f"{least:g} to {most:g}" if 0 < least and most < float("inf") else f"at least {least:g}" if most == float("inf") else f"at most {most:.4g}"
        is_met = value is not None and least <= value <= most
        is_missed = is_missed or (value is not None and not is_met)
        verdict = "not measured" if value is None else f"{value:.4g} {unit}   {'met' if is_met else 'MISSED'}"
        print(f"{what:58} {wanted:>14} {unit:6} {verdict}")
    for what in result["skipped"]:
        print(f"skipped: {what}")
    return 1 if is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
