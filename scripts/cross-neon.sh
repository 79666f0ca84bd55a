#!/usr/bin/env bash
# cross-neon: the op tests built for aarch64 and run under qemu-user, to check the NEON kernels on another machine.
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
"$emulator" build/neon/bin/banyan_ops_test "$@"
