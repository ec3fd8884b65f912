#!/usr/bin/env bash
# Installs what is missing, builds quern and runs its main job on real tensors: query, key and value of
# one layer of a language model on real text (examples/data/README.md).
set -eu
cd "$(dirname "$0")/.."
bash tests/deps.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build build -j "$(nproc)" --target quern-cli example_00_first example_naive >/dev/null
q=examples/data/layer14.q.npy k=examples/data/layer14.k.npy v=examples/data/layer14.v.npy
spec=examples/zoo/causal.lua
echo "== the first program (examples/00_first.c)"
build/examples/00_first
echo "== every element against the definition"
build/quern check $spec q=$q k=$k v=$v
echo "== speed on one thread"
build/quern bench $spec q=$q k=$k v=$v
naive=$(build/examples/naive $q $k $v)
ours=$(build/quern bench $spec q=$q k=$k v=$v --json | sed 's/.*"ms_best": \([^,]*\),.*/\1/')
echo "a naive C loop at -O3 takes $naive ms: $(awk "BEGIN{printf \"%.1f\", $naive / $ours}") times as long"
echo "== why it is what it is"
build/quern explain $spec D=64
