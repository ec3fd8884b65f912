#!/usr/bin/env bash
# Fractions of the FMA peak that the acceptance suite names: the matrix product of
# tests/accept/foreign/product.qir, and two norms that only their specs know.
# bash tests/bench/accept.sh [build folder]. A peak that moves by more than a tenth while it is
# measured is a disturbed machine: no verdict.
set -eu
cd "$(dirname "$0")/../.."
quern=${1:-build}/quern
field() { sed "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/"; }
judge() { # name, bar, command..
  local name=$1 bar=$2; shift 2
  local best=0 low=1e9 high=0 line f p
  for _ in 1 2 3; do
    line=$("$quern" bench "$@" --json)
    f=$(echo "$line" | field fraction_of_peak); p=$(echo "$line" | field peak_gflops)
    echo "  try: $f of $p GFLOP/s"
    best=$(awk "BEGIN { print ($f > $best) ? $f : $best }")
    low=$(awk "BEGIN { print ($p < $low) ? $p : $low }"); high=$(awk "BEGIN { print ($p > $high) ? $p : $high }")
  done
  awk -v n="$name" -v x="$best" -v b="$bar" -v l="$low" -v h="$high" \
    'BEGIN { v = (x >= b) ? "yes" : (h > 1.1 * l) ? "no verdict: the machine is disturbed" : "no"; print n ": " x " (bar " b "): " v }'
}
isa=$("$quern" bench examples/zoo/full.lua Nq=64 Nk=64 D=64 --json | field isa)
echo "instruction set: $isa"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp tests/accept/foreign/product.qir "$work/product.qir"
case $isa in
avx512) bar=0.80 ;;
*) bar=0.75; sed -i 's/tile n 64/tile n 32/; s/lanes n 16/lanes n 8/; s/block m 4/block m 3/' "$work/product.qir" ;;
esac
judge "matrix product, 1,024 cubed" "$bar" "$work/product.qir" B=1 M=1024 N=1024 K=1024
judge "softplus over its sum, D = 128, N = 2,048" 0.6 examples/zoo/softplus.lua Hq=4 Hk=4 Nq=2048 Nk=2048 D=128
judge "base 2 with a sink, D = 128, N = 2,048" 0.6 examples/zoo/base2.lua Hq=4 Hk=4 Nq=2048 Nk=2048 D=128
