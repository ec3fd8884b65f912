#!/usr/bin/env bash
# The figures that quern promises, each as a ratio inside one run: bash tests/bench/speed.sh [build folder]
# Machines are shared and noisy: quote the ratios, not the times; run it twice before believing it.
set -eu
cd "$(dirname "$0")/../.."
quern=${1:-build}/quern
zoo=examples/zoo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
field() { sed "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/"; }
bench() { "$quern" bench "$@" --json; }
verdict() { awk -v x="$1" -v bar="$2" -v less="$3" 'BEGIN { print ((less == "at-most") ? x <= bar : x >= bar) ? "yes" : "no" }'; }
printf 'local qn = require "quern"\nreturn qn.attention { name = "full" }\n' >"$work/full.lua"
printf 'local qn = require "quern"\nreturn qn.attention { name = "window", mask = qn.causal & qn.window(512) }\n' >"$work/window.lua"

isa=$(bench "$work/full.lua" Nq=64 Nk=64 D=64 | field isa)
case $isa in avx512) bar=0.75 ;; avx2) bar=0.72 ;; *) bar=0 ;; esac
echo "instruction set: $isa"
x=$(bench "$work/full.lua" Hq=4 Hk=4 Nq=2048 Nk=2048 D=128 | field fraction_of_peak)
echo "full, D = 128, N = 2048, one core: $x of the FMA peak (bar $bar: $(verdict "$x" "$bar" at-least))"
x=$(bench "$zoo/causal.lua" Hq=4 Hk=4 Nq=2048 Nk=2048 D=128 | field fraction_of_peak)
echo "causal, D = 128, N = 2048, one core: $x of the FMA peak, kept pairs counted"
f=$(bench "$work/full.lua" Hq=1 Hk=1 Nq=4096 Nk=4096 D=128 | field ms_best)
c=$(bench "$zoo/causal.lua" Hq=1 Hk=1 Nq=4096 Nk=4096 D=128 | field ms_best)
r=$(awk "BEGIN { print $c / $f }")
echo "causal over full, N = 4096: $r (bar 0.62: $(verdict "$r" 0.62 at-most))"
# kept pairs of a window: N W - W (W - 1) / 2
a=$(bench "$work/window.lua" Hq=1 Hk=1 Nq=4096 Nk=4096 D=128 | field ms_best)
b=$(bench "$work/window.lua" Hq=1 Hk=1 Nq=65536 Nk=65536 D=128 | field ms_best)
r=$(awk "BEGIN { w = 512; p = 4096 * w - w * (w - 1) / 2; q = 65536 * w - w * (w - 1) / 2; print ($b / q) / ($a / p) }")
echo "window of 512, time a pair at N = 65536 over N = 4096: $r (bar 1.12: $(verdict "$r" 1.12 at-most))"
# an i32 .npy of the offsets of documents of these lengths
offsets() {
  local file=$1 n=0 text="" k; shift
  text="{'descr': '<i4', 'fortran_order': False, 'shape': ($(($# + 1)),), }"
  { printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$text"
    for k in 0 "$@"; do
      n=$((n + k))
      printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) $((n >> 24 & 255)))"
    done
  } >"$file"
}
documents() { # name, lengths..
  local name=$1 sum=0 n t; shift
  offsets "$work/cu.npy" "$@"
  for n in "$@"; do
    t=$(bench "$zoo/causal.lua" Hq=1 Hk=1 Nq="$n" Nk="$n" D=128 | field ms_best)
    sum=$(awk "BEGIN { print $sum + $t }")
  done
  t=$(bench "$zoo/document.lua" cu="$work/cu.npy" Hq=1 Hk=1 Nq=8192 Nk=8192 D=128 | field ms_best)
  r=$(awk "BEGIN { print $t / $sum }")
  echo "$name at N = 8192 over the sum of their own times: $r (bar 1.5: $(verdict "$r" 1.5 at-most))"
}
documents "16 documents of 512" 512 512 512 512 512 512 512 512 512 512 512 512 512 512 512 512
documents "16 ragged documents" 1 1200 37 900 64 2000 333 128 700 511 5 1024 250 600 299 140
x=$(bench "$zoo/causal.lua" Hq=32 Hk=8 Nq=1 Nk=32768 D=128 --threads=2 --runs=9 | field fraction_of_read)
echo "decode, Hq 32, Hk 8, Nk = 32768, two threads: $x of a plain read (bar 0.5: $(verdict "$x" 0.5 at-least))"
best=1e9 bestgen=1e9
for k in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  line=$(bench "$zoo/causal.lua" Hq=1 Hk=1 Nq=8 Nk=8 D=64 --runs=1)
  t=$(echo "$line" | field compile_ms); g=$(echo "$line" | field codegen_ms)
  best=$(awk "BEGIN { print ($t < $best) ? $t : $best }"); bestgen=$(awk "BEGIN { print ($t <= $best) ? $g : $bestgen }")
done
r=$(awk "BEGIN { print $best / $bestgen }")
echo "spec text to callable, all plans, best of 20: $best ms (bar 100: $(verdict "$best" 100 at-most)); over LLVM's own part: $r (bar 1.8: $(verdict "$r" 1.8 at-most))"
