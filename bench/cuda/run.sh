#!/usr/bin/env bash
# Builds the CUDA backend and its benches for the device at hand, runs them, and PyTorch and transformers beside them. Needs nvcc, CMake, g++ and python3,
# for the peers with torch and transformers; no Node. Run scripts/test-cuda.sh first: a bench of wrong results says nothing.
#   bench/cuda/run.sh OUTDIR [size: 8b, 1b or small; default 8b] [bench: engine gemm attend rows ...; default all, in this order]
# leaves there, of each bench, NAME.jsonl, NAME_peers.txt and logs; of all that lie there, results.json (results.py) and what the targets say.
# A part that fails or finds no time costs no other its results. Exit code 1: something failed, or a target was missed. From the environment:
#   BANYAN_BENCH_SECONDS        after so many it ends (default 1800); 570 for one or two benches where a command may take ten minutes
#   BANYAN_BENCH_MODEL          where the model is written and stays (8b: 16 GB); default: /dev/shm/banyan-bench, removed afterwards
#   BANYAN_BENCH_BUILD          build folder (default: OUTDIR/build)
#   BANYAN_CUDA_ARCHITECTURES   instead of the first GPU's
#   BANYAN_COMMIT               where this is no git checkout
set -u
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd)
size=${2:-8b}
benches=("${@:3}")
[ ${#benches[@]} -gt 0 ] || benches=(engine gemm attend rows)
build=${BANYAN_BENCH_BUILD:-$out/build}
model=${BANYAN_BENCH_MODEL:-}
budget=${BANYAN_BENCH_SECONDS:-1800}
failed=0
mkdir -p "$build" "$out/logs"

arch=${BANYAN_CUDA_ARCHITECTURES:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')}
[ -n "$arch" ] || { echo "bench:cuda: nvidia-smi finds no GPU" >&2; exit 2; }
[ "$arch" = 90 ] && arch=90a

# run NAME FILE SECONDS COMMAND...: at most so long; output into a file and here, errors into a log, one line here. What was printed until it failed stays.
run() {
  local name=$1 file=$2 most=$3 left=$((budget - SECONDS)) begin=$SECONDS status
  shift 3
  [ "$left" -lt "$most" ] && most=$left
  [ "$most" -gt 5 ] || { echo "$name: no time left"; return 124; }
  timeout "$most" "$@" 2>"$out/logs/${name// /_}.log" | tee "$file"
  status=${PIPESTATUS[0]}
  case $status in
    0) echo "$name: $((SECONDS - begin)) s" ;;
    124) echo "$name: cut short after $((SECONDS - begin)) s" ;;
    *) echo "$name: FAILED ($status) after $((SECONDS - begin)) s"; tail -15 "$out/logs/${name// /_}.log"; failed=1 ;;
  esac
  return "$status"
}

generator=()
[ -f "$build/CMakeCache.txt" ] || { command -v ninja >/dev/null && generator=(-G Ninja); }
run configure "$out/logs/configure.txt" 120 cmake -S . -B "$build" "${generator[@]}" -DBANYAN_TESTS=ON -DBANYAN_CUDA=on \
  -DBANYAN_CUDA_ARCHITECTURES="$arch" -DCMAKE_BUILD_TYPE=Release >/dev/null || { tail -15 "$out/logs/configure.log" >&2; exit 1; }

for bench in "${benches[@]}"; do
  program=banyan_${bench}_bench
  run "build $bench" "$out/logs/build_$bench.txt" 600 cmake --build "$build" --parallel "$(nproc)" --target "$program" >/dev/null || {
    echo "$bench: cannot be built"; tail -n 15 "$out/logs/build_$bench.txt" "$out/logs/build_$bench.log"; failed=1; continue; }
  echo "$bench:"
  if [ "$bench" = engine ]; then
    folder=${model:-/dev/shm/banyan-bench}
    left=$((budget - SECONDS))
    # A third of what is left is the peer's, and a little the end's.
    run engine "$out/engine.jsonl" "$left" "$build/bin/$program" "$folder" --size "$size" --seconds $((left * 6 / 10))
    [ -n "$model" ] || rm -rf "$folder"
    peer=(--seconds $(((budget - SECONDS) / 2)))
  else
    small=()
    [ "$size" = small ] && small=(small)
    run "$bench" "$out/$bench.jsonl" 300 "$build/bin/$program" "${small[@]}"
    peer=()
  fi
  [ -f "bench/cuda/peers_$bench.py" ] && [ -s "$out/$bench.jsonl" ] || continue
  modules=torch
  [ "$bench" = engine ] && modules=torch,transformers
  python3 -c "import $modules" 2>/dev/null || { echo "peers of $bench: skipped, python3 has not all of $modules"; continue; }
  run "peers of $bench" "$out/${bench}_peers.txt" 300 python3 "bench/cuda/peers_$bench.py" "$out/$bench.jsonl" "${peer[@]}"
done

python3 bench/cuda/results.py "$out" | tee "$out/targets.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
exit $failed
