#!/usr/bin/env bash
# Builds the CUDA backend and its benches for the device at hand, runs them and PyTorch beside them. Needs nvcc, g++ and, for the peers, python3 with
# torch. Run scripts/test-cuda.sh first: a bench of wrong results says nothing.
#   bench/cuda/run.sh OUTDIR [small]      leaves of each bench NAME.jsonl and NAME_peers.txt there
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
size=${2:-}
build=$out/build
mkdir -p "$build"

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
[[ $capability == 90 ]] && capability=90a
flags=(-std=c++20 --expt-relaxed-constexpr -O3 -Icpp -I. -gencode "arch=compute_$capability,code=sm_$capability" -cudart static)
: > "$build/jobs"
compile() {  # source, more flags
  local object=$build/${1//\//_}.o
  echo "nvcc ${flags[*]} $2 -c $1 -o $object" >> "$build/jobs"
}
for file in cuda/*.cu bench/cuda/*_bench.cu; do compile "$file" "-Xptxas -warn-spills"; done
for file in cpp/base/*.cc; do compile "$file" ""; done
xargs -P "$(nproc)" -I{} bash -c '{}' < "$build/jobs"
common=("$build"/cuda_*.cu.o "$build"/cpp_*.cc.o)
benches=(bench/cuda/*_bench.cu)
for bench in "${benches[@]}"; do
  name=$(basename "$bench" _bench.cu)
  nvcc "${flags[@]}" -o "$build/${name}_bench" "$build/bench_cuda_${name}_bench.cu.o" "${common[@]}"
done

for bench in "${benches[@]}"; do
  name=$(basename "$bench" _bench.cu)
  "$build/${name}_bench" $size | tee "$out/$name.jsonl"
  peers=bench/cuda/peers_$name.py
  [[ $name == gemm ]] && peers=bench/cuda/peers.py
  [[ -f $peers ]] || continue
  python3 "$peers" "$out/$name.jsonl" | tee "$out/${name}_peers.txt" || echo "no peers of $name"
done
