#!/usr/bin/env bash
# The first program in the README is the file that is built and run.
set -u
root=$2
shown=$(awk '/^```c$/{on=1; next} /^```$/{on=0} on' "$root/README.md")
[ "$shown" = "$(cat "$root/examples/00_first.c")" ] || { echo "README.md and examples/00_first.c differ"; exit 1; }
lines=$(wc -l <"$root/README.md")
[ "$lines" -le 150 ] || { echo "README.md has $lines lines"; exit 1; }
