#!/usr/bin/env bash
# The program's manners: help on one screen, exit codes, nothing but results on stdout.
set -u
quern=$1 root=$2 fails=0 scratch=$(mktemp)
fail() { echo "FAIL: $1"; fails=$((fails + 1)); }
expect() { # exit code, words on stderr, command..
  local want=$1 words=$2; shift 2
  local err code
  err=$("$@" 2>&1 >"$scratch"); code=$?
  [ "$code" = "$want" ] || fail "$*: exit $code, not $want ($err)"
  case "$err" in *"$words"*) ;; *) fail "$*: stderr lacks '$words': $err" ;; esac
  [ "$want" = 0 ] || [ ! -s "$scratch" ] || fail "$*: an error printed to stdout"
}
lines=$("$quern" --help | wc -l)
[ "$lines" -le 40 ] || fail "--help is $lines lines"
expect 2 "usage" "$quern"
expect 2 "unknown verb" "$quern" grind x.lua
expect 2 "expected a spec" "$quern" run
expect 2 "cannot be read" "$quern" run "$root/no/such.lua"
expect 2 "unknown option" "$quern" run "$root/examples/zoo/causal.lua" --frobnicate
expect 2 "expected NAME=VALUE" "$quern" run "$root/examples/zoo/causal.lua" nonsense
expect 2 "no size, parameter or tensor" "$quern" run "$root/examples/zoo/causal.lua" Wq=3
expect 2 "expected a number" "$quern" run "$root/examples/zoo/causal.lua" Nq=three
expect 2 "no output of that name" "$quern" run "$root/examples/zoo/causal.lua" -o z=z.npy
expect 2 "compile wants" "$quern" compile "$root/examples/zoo/causal.lua"
expect 0 "" "$quern" check "$root/examples/zoo/document.lua" B=1 Hq=2 Hk=1 Nq=70 Nk=70 D=16 Ndoc_p1=5
expect 0 "" "$quern" check "$root/examples/zoo/positions.lua" B=1 Hq=2 Hk=1 Nq=30 Nk=40 D=16
bare=$(mktemp --suffix=.lua)
sed 's/, { sample = "offsets" }//' "$root/examples/zoo/document.lua" >"$bare"
expect 2 "integers cannot be made up" "$quern" check "$bare" Nq=70 Nk=70
rm -f "$scratch" "$bare"
[ "$fails" = 0 ] && echo "usage: good"
exit "$fails"
