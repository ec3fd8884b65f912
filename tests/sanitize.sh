#!/usr/bin/env bash
# The unit, error and command-line tests under AddressSanitizer and UndefinedBehaviorSanitizer, with clang:
# bash tests/sanitize.sh [ctest arguments]
set -eu
cd "$(dirname "$0")/.."
bash tests/deps.sh
jobs=$(nproc)
cmake -S . -B build-sanitize -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DQN_SANITIZE=ON >/dev/null
cmake --build build-sanitize -j "$jobs" >build-sanitize/build.log || { cat build-sanitize/build.log; exit 1; }
# left out: what takes minutes under sanitizers; the plain build runs it
ctest --test-dir build-sanitize -j "$jobs" --output-on-failure -LE 'slow|gpu|diff|accept|example' \
  -E '^(unit_leaf|unit_interp|unit_ranges|unit_zoo)$' "$@"
