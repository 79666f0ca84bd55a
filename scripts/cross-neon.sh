#!/usr/bin/env bash
# cross-neon: the op tests built for aarch64 and run under qemu-user, to check the NEON kernels on another machine: all of them on a processor that has
# every instruction, then gemm on processors with fewer, which must leave the variants out that they cannot run.
# Debian: apt-get install g++-aarch64-linux-gnu qemu-user. Exit code 0 with a reason where they are not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || echo qemu-aarch64)
for tool in aarch64-linux-gnu-g++ "$emulator" cmake; do
  if ! command -v "$tool" > /dev/null; then
    echo "cross-neon: skipped, $tool is not installed"
    exit 0
  fi
done
generator=()
if command -v ninja > /dev/null; then generator=(-G Ninja); fi
CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
export CMAKE_BUILD_PARALLEL_LEVEL
cmake -S . -B build/neon "${generator[@]}" -DBANYAN_TESTS=ON -DBANYAN_CUDA=off -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static
cmake --build build/neon --target banyan_ops_test

# on PROCESSOR VARIANTS [SUITE...]: the suites (all by default) pass there, and exactly these variants run, best first.
on() {
  local output=build/neon/$1.txt variants
  echo "-- $1"
  "$emulator" -cpu "$1" build/neon/bin/banyan_ops_test "${@:3}" | tee "$output"
  variants=$(awk '$4 == "passed" && !seen[$2]++ { printf "%s%s", space, $2; space = " " }' "$output")
  if [ "$variants" != "$2" ]; then
    echo "cross-neon: expected $2 on $1"
    exit 1
  fi
}
on max "neoni8mm neondot neon scalar" "$@"
on cortex-a76 "neondot neon scalar" gemm
on cortex-a57 "neon scalar" swiglu  # what it computes ran on the first already
