#!/usr/bin/env bash
# test-cuda: builds the C++ tests for this machine's GPU and runs them there: every op, the engine's tests with float32 arithmetic, then the op tests
# under compute-sanitizer if it is on PATH. Needs nvcc, CMake and a C++20 compiler; no Node. Ends within BANYAN_TEST_SECONDS (default 570, so that it
# fits into ten minutes): what finds no time is cut short and says so. Logs lie in build/cuda/logs.
#   scripts/test-cuda.sh [architecture, e.g. 90a; default: that of the first GPU] [build folder; default: build/cuda]
set -u
cd "$(dirname "$0")/.."
arch=${1:-}
folder=${2:-build/cuda}
if [ -z "$arch" ]; then
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
  [ -n "$arch" ] || { echo "test-cuda: nvidia-smi finds no GPU; name the architecture to build anyway" >&2; exit 2; }
  if [ "$arch" = 90 ]; then arch=90a; fi
fi
logs=$folder/logs
mkdir -p "$logs"
failed=0
budget=${BANYAN_TEST_SECONDS:-570}

# run NAME COMMAND...: output into a log, one line here. 124: cut short.
run() {
  local name=$1 begin=$SECONDS status left=$((budget - SECONDS))
  shift
  [ $left -gt 5 ] || { echo "$name: no time left"; return 124; }
  timeout "$left" "$@" >"$logs/$name.log" 2>&1
  status=$?
  case $status in
    0) echo "$name: passed in $((SECONDS - begin)) s; $(tail -1 "$logs/$name.log")" ;;
    124) echo "$name: cut short after $((SECONDS - begin)) s; $(tail -1 "$logs/$name.log")" ;;
    *) echo "$name: FAILED ($status) after $((SECONDS - begin)) s"; tail -25 "$logs/$name.log" ;;
  esac
  return $status
}

generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
run configure cmake -S . -B "$folder" "${generator[@]}" -DBANYAN_TESTS=ON -DBANYAN_CUDA=on -DBANYAN_CUDA_ARCHITECTURES="$arch" \
  -DCMAKE_BUILD_TYPE=Release || exit 1
run build cmake --build "$folder" --parallel "$(nproc)" --target banyan_ops_test banyan_engine_test || exit 1
bin=$folder/bin
run ops "$bin/banyan_ops_test" cuda || failed=1
run engine env BANYAN_TEST_DEVICE=cuda BANYAN_CUDA_EXACT=1 "$bin/banyan_engine_test" || failed=1
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck; do
    run $tool compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 20 "$bin/banyan_ops_test" cuda
    case $? in 0 | 124) ;; *) failed=1 ;; esac  # slow, and what was seen until then is worth something
  done
else
  echo "compute-sanitizer is not on PATH: skipped"
fi
exit $failed
