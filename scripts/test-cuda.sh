#!/usr/bin/env bash
# test-cuda: builds the C++ tests for this machine's GPU and runs them there: every op, the engine's tests with float32 arithmetic, the golden cases if
# there is a Node (below), then the op tests under compute-sanitizer if it is on PATH. Needs nvcc, CMake and a C++20 compiler. Ends within
# BANYAN_TEST_SECONDS (default 570, so that it fits into ten minutes): what finds no time is cut short and says so. Logs lie in build/cuda/logs.
# The golden cases need node on PATH with its headers (../include/node beside it) and tsx, node-addon-api and node-gyp-build in node_modules.
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

node=$(readlink -f "$(command -v node)")
headers=${node%/bin/*}/include/node
addon=()
if [ -f "$headers/node_api.h" ] && [ -e node_modules/tsx ] && [ -e node_modules/node-addon-api ]; then addon=(-DCMAKE_JS_INC="$headers"); fi

generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
run configure cmake -S . -B "$folder" "${generator[@]}" -DBANYAN_TESTS=ON -DBANYAN_CUDA=on -DBANYAN_CUDA_ARCHITECTURES="$arch" \
  -DCMAKE_BUILD_TYPE=Release "${addon[@]}" || exit 1
run build cmake --build "$folder" --parallel "$(nproc)" --target banyan_ops_test banyan_engine_test || exit 1
bin=$folder/bin
run ops "$bin/banyan_ops_test" cuda || failed=1
run engine env BANYAN_TEST_DEVICE=cuda BANYAN_CUDA_EXACT=1 "$bin/banyan_engine_test" || failed=1

# golden NAME [VARIABLE=VALUE] -- [OPTION...]: the golden cases through the addon of this build.
golden() {
  local name=$1 settings=()
  shift
  while [ "$1" != -- ]; do settings+=("$1"); shift; done
  shift
  run "$name" env BANYAN_PREBUILD="$(cd "$folder" && pwd)/addon" "${settings[@]}" \
    "$node" node_modules/tsx/dist/cli.mjs test/golden/main.ts test/fixtures --device cuda "$@" || failed=1
}
if [ ${#addon[@]} -eq 0 ]; then
  echo "golden cases: skipped, they need node with its headers, and node_modules"
elif run build-addon cmake --build "$folder" --parallel "$(nproc)" --target banyan; then
  mkdir -p "$folder/addon/build/Release" && cp "$folder/banyan.node" "$folder/addon/build/Release/"
  golden golden-exact BANYAN_CUDA_EXACT=1 --  # at most 2e-4
  golden golden --                            # also: these weights are float32, which are never rounded
  golden golden-bf16 -- --weights bf16        # tensor cores, by the rule of test/golden/halves.ts
  golden golden-f16 -- --weights f16
  if [ -e node_modules/vitest ] && [ -e shared/models/stories260K-expected.json ]; then
    run stories env BANYAN_PREBUILD="$(cd "$folder" && pwd)/addon" BANYAN_TEST_DEVICE=cuda \
      "$node" node_modules/vitest/vitest.mjs run test/golden/stories.test.ts || failed=1
  else
    echo "stories260K: skipped, it needs vitest and shared/models"
  fi
else
  failed=1
fi

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck; do
    run $tool compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 20 "$bin/banyan_ops_test" cuda
    case $? in 0 | 124) ;; *) failed=1 ;; esac  # slow, and what was seen until then is worth something
  done
else
  echo "compute-sanitizer is not on PATH: skipped"
fi
exit $failed
